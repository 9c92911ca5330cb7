//! Best-fit decreasing: the longest piece first, each into the sequence that it leaves the least room in (Johnson 1973).
//!
//! Open sequences are kept in stacks by the room they have left, and a tree of bits says which stacks hold any; so a
//! piece finds its sequence in as many steps as the tree has levels, three up to 262,144 positions.

use super::{Item, Packed, Piece};

/// Packs documents. Only those longer than a sequence are cut.
pub(super) fn pack(items: &[Item], sequence_length: u32) -> Packed {
    let mut pieces = Vec::with_capacity(items.len());
    for item in items {
        let Item { dataset, document, length } = *item;
        let mut offset = 0;
        for positions in piece_positions(length, sequence_length) {
            pieces.push(Piece { dataset, document, offset, positions });
            offset += positions;
        }
    }
    sort_by_decreasing_positions(&mut pieces, sequence_length);
    let mut open = OpenSequences::new(sequence_length);
    let sequences: Vec<u32> = pieces.iter().map(|piece| open.place(piece.positions)).collect();
    group(&pieces, &sequences, open.count())
}

/// How many sequences `pack` makes.
pub(super) fn count(lengths: &[u32], sequence_length: u32) -> u64 {
    let mut by_positions = vec![0u32; sequence_length as usize + 1];
    let mut whole = 0;
    for length in lengths {
        for positions in piece_positions(*length, sequence_length) {
            match positions == sequence_length {
                true => whole += 1,
                false => by_positions[positions as usize] += 1,
            }
        }
    }
    let mut open = OpenSequences::new(sequence_length);
    for (positions, count) in by_positions.iter().enumerate().rev() {
        for _ in 0..*count {
            open.place(positions as u32);
        }
    }
    whole + open.count() as u64
}

/// The positions of each piece of a document of `length` ids.
fn piece_positions(length: u32, sequence_length: u32) -> impl Iterator<Item = u32> {
    let all = length - 1;
    let (whole, rest) = (all / sequence_length, all % sequence_length);
    (0..whole).map(move |_| sequence_length).chain((rest > 0).then_some(rest))
}

/// A stable counting sort.
fn sort_by_decreasing_positions(pieces: &mut Vec<Piece>, most: u32) {
    let mut places = vec![0usize; most as usize + 1];
    for piece in pieces.iter() {
        places[(most - piece.positions) as usize] += 1;
    }
    let mut next = 0;
    for place in &mut places {
        next += std::mem::replace(place, next);
    }
    let mut sorted = vec![Piece { dataset: 0, document: 0, offset: 0, positions: 0 }; pieces.len()];
    for piece in pieces.iter() {
        let place = &mut places[(most - piece.positions) as usize];
        sorted[*place] = *piece;
        *place += 1;
    }
    *pieces = sorted;
}

/// Puts the pieces of each sequence together, in the order in which they were placed.
fn group(pieces: &[Piece], sequences: &[u32], count: usize) -> Packed {
    let mut ends = vec![0u32; count];
    for sequence in sequences {
        ends[*sequence as usize] += 1;
    }
    let mut next = 0;
    for end in &mut ends {
        next += std::mem::replace(end, next);
    }
    let mut grouped = vec![Piece { dataset: 0, document: 0, offset: 0, positions: 0 }; pieces.len()];
    for (piece, sequence) in pieces.iter().zip(sequences) {
        // Where the next piece goes; once all are there, where they end.
        let place = &mut ends[*sequence as usize];
        grouped[*place as usize] = *piece;
        *place += 1;
    }
    Packed { pieces: grouped, ends }
}

/// Sequences by the room they have left.
struct OpenSequences {
    sequence_length: u32,
    /// By room: the sequence that was put there last.
    tops: Vec<u32>,
    /// By sequence: the one that was put there before it.
    below: Vec<u32>,
    rooms: BitTree,
}

const NONE: u32 = u32::MAX;

impl OpenSequences {
    fn new(sequence_length: u32) -> Self {
        let rooms = sequence_length as usize + 1;
        Self { sequence_length, tops: vec![NONE; rooms], below: Vec::new(), rooms: BitTree::new(rooms) }
    }

    fn count(&self) -> usize {
        self.below.len()
    }

    /// Puts a piece into the sequence with the least room that suffices, or into a new one; gives the sequence.
    fn place(&mut self, positions: u32) -> u32 {
        let (sequence, room) = match self.rooms.first_from(positions as usize) {
            Some(room) => {
                let sequence = self.tops[room];
                self.tops[room] = self.below[sequence as usize];
                if self.tops[room] == NONE {
                    self.rooms.remove(room);
                }
                (sequence, room)
            }
            None => {
                self.below.push(NONE);
                (self.below.len() as u32 - 1, self.sequence_length as usize)
            }
        };
        let left = room - positions as usize;
        if left > 0 {
            self.below[sequence as usize] = self.tops[left];
            self.tops[left] = sequence;
            self.rooms.insert(left);
        }
        sequence
    }
}

/// A set of small numbers that finds the next member in logarithmic time: a bit of a level says whether the 64 below it
/// hold any.
struct BitTree {
    levels: Vec<Vec<u64>>,
}

impl BitTree {
    fn new(size: usize) -> Self {
        let mut levels = Vec::new();
        let mut words = size;
        loop {
            words = words.div_ceil(64);
            levels.push(vec![0; words]);
            if words <= 1 {
                return Self { levels };
            }
        }
    }

    fn insert(&mut self, mut member: usize) {
        for level in &mut self.levels {
            level[member / 64] |= 1 << (member % 64);
            member /= 64;
        }
    }

    fn remove(&mut self, mut member: usize) {
        for level in &mut self.levels {
            level[member / 64] &= !(1 << (member % 64));
            if level[member / 64] != 0 {
                return;
            }
            member /= 64;
        }
    }

    /// The least member that is `least` or more.
    fn first_from(&self, least: usize) -> Option<usize> {
        let mut from = least;
        for (height, level) in self.levels.iter().enumerate() {
            let word = level.get(from / 64)? & (u64::MAX << (from % 64));
            if word != 0 {
                let mut found = from / 64 * 64 + word.trailing_zeros() as usize;
                for lower in self.levels[..height].iter().rev() {
                    found = found * 64 + lower[found].trailing_zeros() as usize;
                }
                return Some(found);
            }
            from = from / 64 + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_tree_finds_what_a_sorted_set_finds(
            size in 1usize..5000,
            changes in prop::collection::vec((any::<bool>(), 0usize..5000), 0..200),
            queries in prop::collection::vec(0usize..5000, 0..50),
        ) {
            let mut tree = BitTree::new(size);
            let mut set = std::collections::BTreeSet::new();
            for (is_insertion, member) in changes {
                let member = member % size;
                if is_insertion { tree.insert(member); set.insert(member); } else { tree.remove(member); set.remove(&member); }
            }
            for least in queries {
                prop_assert_eq!(tree.first_from(least), set.range(least..).next().copied());
            }
        }

        #[test]
        fn each_piece_goes_where_it_leaves_the_least_room(
            lengths in prop::collection::vec(2u32..40, 0..120),
            sequence_length in 2u32..32,
        ) {
            let mk_item = |(document, length)| Item { dataset: 0, document, length };
            let items: Vec<Item> = (0..).zip(lengths.iter().copied()).map(mk_item).collect();
            let packed = pack(&items, sequence_length);
            prop_assert_eq!(packed.sequences() as u64, count(&lengths, sequence_length));

            // The same by looking at every sequence.
            let mut positions: Vec<u32> =
                lengths.iter().flat_map(|length| piece_positions(*length, sequence_length)).collect();
            positions.sort_by_key(|positions| std::cmp::Reverse(*positions));
            let mut rooms: Vec<u32> = Vec::new();
            for positions in positions {
                match rooms.iter_mut().filter(|room| **room >= positions).min() {
                    Some(room) => *room -= positions,
                    None => rooms.push(sequence_length - positions),
                }
            }
            let room_of = |sequence| sequence_length - packed.sequence(sequence).iter().map(|piece| piece.positions).sum::<u32>();
            let mut found: Vec<u32> = (0..packed.sequences()).map(room_of).collect();
            found.sort_unstable();
            rooms.sort_unstable();
            prop_assert_eq!(found, rooms);
        }
    }
}
