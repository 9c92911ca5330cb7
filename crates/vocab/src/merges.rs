//! Byte pair encoding over a compiled table of merges.
//!
//! Both SentencePiece's BPE and tiktoken's merge, again and again, the two neighbours whose concatenation is the best
//! piece, the leftmost first where several are equally good. Neighbours are looked up as a pair of symbols, not as a
//! string: a piece can only ever arise from **one** pair. For, as long as no merge crosses the ends of an occurrence of
//! the piece, what happens inside is what happens to the piece alone, so that its two last parts are always the same. So
//! a table needs one entry a piece (that cannot be reached has none), and a tokenizer.json one merge.

use crate::hash::mix;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What stands for "no symbol".
pub(crate) const NO_SYMBOL: u32 = u32::MAX;
const NO_RANK: u32 = u32::MAX;
/// Up to this many symbols, looking at every pair is faster than a heap.
const SCANNED: usize = 24;

/// From pairs of symbols to the symbol that they merge into and its rank, the best being 0.
#[derive(Clone, Debug)]
pub(crate) struct MergeTable {
    slots: Vec<Slot>,
    shift: u32,
    length: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    pair: u64,
    merge: Merge,
}

/// What a pair merges into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Merge {
    pub(crate) rank: u32,
    pub(crate) symbol: u32,
}

const NO_MERGE: Merge = Merge { rank: NO_RANK, symbol: NO_SYMBOL };
const EMPTY: Slot = Slot { pair: u64::MAX, merge: NO_MERGE };

impl MergeTable {
    /// A table with room for this many merges.
    pub(crate) fn with_capacity(merges: usize) -> Self {
        let size = (merges.max(8) * 2).next_power_of_two();
        Self { slots: vec![EMPTY; size], shift: 64 - size.trailing_zeros(), length: 0 }
    }

    /// Adds a merge.
    pub(crate) fn insert(&mut self, left: u32, right: u32, merge: Merge) {
        if (self.length + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let pair = pair_of(left, right);
        let mut index = self.start(pair);
        while self.slots[index].pair != u64::MAX && self.slots[index].pair != pair {
            index = (index + 1) & (self.slots.len() - 1);
        }
        self.length += usize::from(self.slots[index].pair != pair);
        self.slots[index] = Slot { pair, merge };
    }

    fn grow(&mut self) {
        let mut larger = Self::with_capacity(self.slots.len());
        for slot in self.slots.iter().filter(|slot| slot.pair != u64::MAX) {
            larger.insert((slot.pair >> 32) as u32, slot.pair as u32, slot.merge);
        }
        *self = larger;
    }

    #[inline]
    fn start(&self, pair: u64) -> usize {
        (mix(pair) >> self.shift) as usize
    }

    /// What a pair merges into.
    #[inline]
    pub(crate) fn get(&self, left: u32, right: u32) -> Merge {
        let pair = pair_of(left, right);
        let mut index = self.start(pair);
        loop {
            let slot = &self.slots[index];
            if slot.pair == pair {
                return slot.merge;
            }
            if slot.pair == u64::MAX {
                return NO_MERGE;
            }
            index = (index + 1) & (self.slots.len() - 1);
        }
    }
}

#[inline]
fn pair_of(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// A symbol of a text, with the end of what it covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    pub(crate) id: u32,
    /// The position in the text where it ends.
    pub(crate) end: u32,
}

/// Buffers of the merging, kept from one text to the next.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    /// The symbols to merge, and those that are left.
    pub(crate) symbols: Vec<Symbol>,
    merges: Vec<Merge>,
    links: Vec<(u32, u32)>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Merger {
    /// Merges `symbols` until no pair is in the table; `seen` gets each pair that is merged.
    pub(crate) fn merge(&mut self, table: &MergeTable, seen: &mut impl FnMut(u32, u32)) {
        self.merges.clear();
        let merges = self.symbols.windows(2).map(|pair| table.get(pair[0].id, pair[1].id));
        self.merges.extend(merges);
        if self.symbols.len() <= SCANNED {
            self.merge_by_scanning(table, seen);
        } else {
            self.merge_by_heap(table, seen);
        }
    }

    /// Appends the ids that are left of `symbols` once no pair is in the table.
    pub(crate) fn append(&mut self, symbols: impl Iterator<Item = Symbol>, table: &MergeTable, ids: &mut Vec<u32>) {
        self.symbols.clear();
        self.symbols.extend(symbols);
        self.merge(table, &mut |_, _| ());
        ids.extend(self.symbols.iter().map(|symbol| symbol.id));
    }

    fn merge_by_scanning(&mut self, table: &MergeTable, seen: &mut impl FnMut(u32, u32)) {
        loop {
            let mut best = NO_RANK;
            let mut left = 0;
            for (index, merge) in self.merges.iter().enumerate() {
                if merge.rank < best {
                    best = merge.rank;
                    left = index;
                }
            }
            if best == NO_RANK {
                return;
            }
            seen(self.symbols[left].id, self.symbols[left + 1].id);
            self.symbols[left] = Symbol { id: self.merges[left].symbol, end: self.symbols[left + 1].end };
            self.symbols.remove(left + 1);
            self.merges.remove(left);
            if left > 0 {
                self.merges[left - 1] = table.get(self.symbols[left - 1].id, self.symbols[left].id);
            }
            if left < self.merges.len() {
                self.merges[left] = table.get(self.symbols[left].id, self.symbols[left + 1].id);
            }
        }
    }

    /// As scanning, with a heap of pairs by rank, then position. An entry is out of date unless its left symbol still
    /// merges with its neighbour into the symbol that the entry names.
    fn merge_by_heap(&mut self, table: &MergeTable, seen: &mut impl FnMut(u32, u32)) {
        const END: u32 = u32::MAX;
        let count = self.symbols.len();
        self.merges.push(NO_MERGE);
        self.links.clear();
        let last = count as u32 - 1;
        self.links.extend((0..=last).map(|index| (index.wrapping_sub(1), if index == last { END } else { index + 1 })));
        self.heap.clear();
        for (index, merge) in self.merges.iter().enumerate().filter(|(_, merge)| merge.rank != NO_RANK) {
            self.heap.push(Reverse((u64::from(merge.rank) << 32 | index as u64, merge.symbol)));
        }
        while let Some(Reverse((key, symbol))) = self.heap.pop() {
            let left = key as u32 as usize;
            if self.merges[left].symbol != symbol || symbol == NO_SYMBOL {
                continue;
            }
            let right = self.links[left].1 as usize;
            seen(self.symbols[left].id, self.symbols[right].id);
            self.symbols[left] = Symbol { id: symbol, end: self.symbols[right].end };
            self.merges[right] = NO_MERGE;
            self.symbols[right].id = NO_SYMBOL;
            let next = self.links[right].1;
            self.links[left].1 = next;
            self.merges[left] = NO_MERGE;
            if next != END {
                self.links[next as usize].0 = left as u32;
                self.renew(table, left, next as usize);
            }
            let previous = self.links[left].0;
            if previous != END {
                self.renew(table, previous as usize, left);
            }
        }
        // Merged symbols lie where they began: keep the living, which the links name in order.
        let mut index = 0;
        let mut kept = 0;
        while index != END {
            self.symbols[kept] = self.symbols[index as usize];
            kept += 1;
            index = self.links[index as usize].1;
        }
        self.symbols.truncate(kept);
    }

    fn renew(&mut self, table: &MergeTable, left: usize, right: usize) {
        let merge = table.get(self.symbols[left].id, self.symbols[right].id);
        self.merges[left] = merge;
        if merge.rank != NO_RANK {
            self.heap.push(Reverse((u64::from(merge.rank) << 32 | left as u64, merge.symbol)));
        }
    }
}

/// A piece to compile: its symbol, its rank, and the symbols that it is first split into.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) symbol: u32,
    pub(crate) rank: u32,
}

/// For each target the one pair that it arises from, if it can be reached.
///
/// `split` gives a text's first symbols; `lookup` the symbol of a string that is a piece or one of the first symbols.
pub(crate) fn compile(
    targets: &[Target<'_>],
    split: impl Fn(&[u8], &mut Vec<Symbol>),
    lookup: impl Fn(&[u8]) -> Option<u32>,
) -> Vec<Option<(u32, u32)>> {
    let mut every_split = MergeTable::with_capacity(targets.len() * 4);
    let mut merger = Merger::default();
    for target in targets {
        merger.symbols.clear();
        split(target.text, &mut merger.symbols);
        for cut in merger.symbols.iter().map(|symbol| symbol.end as usize).filter(|end| *end < target.text.len()) {
            let (left, right) = target.text.split_at(cut);
            if let (Some(left), Some(right)) = (lookup(left), lookup(right)) {
                every_split.insert(left, right, Merge { rank: target.rank, symbol: target.symbol });
            }
        }
    }
    let mut pairs = Vec::with_capacity(targets.len());
    for target in targets {
        merger.symbols.clear();
        split(target.text, &mut merger.symbols);
        let mut last = None;
        merger.merge(&every_split, &mut |left, right| last = Some((left, right)));
        let reached = merger.symbols.len() == 1 && merger.symbols[0].id == target.symbol;
        pairs.push(if reached { last } else { None });
    }
    pairs
}
