//! Learns merges: again and again the pair of neighbours whose merging saves the most ids.
//!
//! In an extension a character that the vocabulary lacks costs one id a byte, so that giving it a piece saves the others;
//! it competes with the pairs, and pairs with it come into question only then.

use super::pairs::{LEAST_OCCURRENCES, Pairs, note};
use super::sequences::Words;
use crate::hash::{FastMap, FastSet};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// What is known of a symbol.
#[derive(Clone, Debug)]
pub(crate) struct SymbolInfo {
    pub(crate) text: Box<str>,
    /// Whether it is spelled in one id already. A symbol that is not is a single character.
    pub(crate) known: bool,
}

/// The learner of a vocabulary.
#[derive(Debug)]
pub(crate) struct Trainer<A> {
    symbols: Vec<SymbolInfo>,
    texts: FastSet<Box<str>>,
    words: Words,
    pairs: Pairs,
    /// The words that hold a character that is not known yet.
    holders: FastMap<u32, Vec<u32>>,
    queue: BinaryHeap<Candidate>,
    allowed: A,
}

/// Something that could become a piece. The order is SentencePiece's: what saves most, then the shortest, then by text.
#[derive(Debug, Eq, PartialEq)]
struct Candidate {
    gain: u64,
    length: Reverse<u32>,
    text: Reverse<Box<str>>,
    what: What,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum What {
    Character(u32),
    Pair(u32, u32),
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.gain, &self.length, &self.text, self.what).cmp(&(other.gain, &other.length, &other.text, other.what))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<A: Fn(&str) -> bool> Trainer<A> {
    /// A learner of pieces that `allowed` lets through, from words of these symbols. It counts their pairs on so many
    /// threads, whose number makes no difference.
    pub(crate) fn new(symbols: Vec<SymbolInfo>, words: Words, threads: usize, allowed: A) -> Self {
        let texts = symbols.iter().filter(|symbol| symbol.known).map(|symbol| symbol.text.clone()).collect();
        let pairs = Pairs::count(&words, threads);
        let mut trainer =
            Self { symbols, texts, words, pairs, holders: FastMap::default(), queue: BinaryHeap::new(), allowed };
        trainer.offer_all();
        trainer
    }

    fn offer_all(&mut self) {
        let mut characters: FastMap<u32, u64> = FastMap::default();
        for (index, symbols, count) in self.words.each() {
            for symbol in symbols.iter().filter(|symbol| !self.symbols[**symbol as usize].known) {
                *characters.entry(*symbol).or_default() += count;
                note(self.holders.entry(*symbol).or_default(), index);
            }
        }
        for (symbol, count) in characters {
            let text = self.symbols[symbol as usize].text.clone();
            let gain = count * (text.len() as u64 - 1);
            if gain > 0 && (self.allowed)(&text) {
                self.queue.push(Candidate {
                    gain,
                    length: Reverse(1),
                    text: Reverse(text),
                    what: What::Character(symbol),
                });
            }
        }
        let pairs: Vec<_> = self.pairs.keys().collect();
        for (left, right) in pairs {
            self.offer(left, right);
        }
    }

    /// Puts a pair into the queue, if it may become a piece.
    fn offer(&mut self, left: u32, right: u32) {
        let (one, other) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        let count = self.pairs.count_of((left, right));
        if count < LEAST_OCCURRENCES || !one.known || !other.known {
            return;
        }
        let text = format!("{}{}", one.text, other.text);
        if (self.allowed)(&text) {
            let length = Reverse(text.chars().count() as u32);
            let text = Reverse(text.into_boxed_str());
            self.queue.push(Candidate { gain: count, length, text, what: What::Pair(left, right) });
        }
    }

    /// The next piece, if there is one left.
    pub(crate) fn next(&mut self) -> Option<Box<str>> {
        while let Some(candidate) = self.queue.pop() {
            let Reverse(text) = candidate.text;
            match candidate.what {
                What::Character(symbol) => {
                    self.symbols[symbol as usize].known = true;
                    self.texts.insert(text.clone());
                    self.offer_neighbours(symbol);
                    return Some(text);
                }
                What::Pair(left, right) => {
                    let count = self.pairs.count_of((left, right));
                    if count != candidate.gain {
                        // Out of date: a pair whose count rose was put into the queue again, one whose count fell was not.
                        if count < candidate.gain {
                            self.offer(left, right);
                        }
                        continue;
                    }
                    if self.texts.insert(text.clone()) {
                        self.merge(left, right, text.clone());
                        return Some(text);
                    }
                    self.pairs.remove((left, right));
                }
            }
        }
        None
    }

    /// Puts the pairs of a character that has become known into the queue.
    fn offer_neighbours(&mut self, symbol: u32) {
        let mut neighbours = Vec::new();
        for word in self.holders.remove(&symbol).unwrap_or_default() {
            let symbols = self.words.symbols_of(word);
            let pairs = symbols.windows(2).filter(|pair| pair.contains(&symbol));
            neighbours.extend(pairs.map(|pair| (pair[0], pair[1])));
        }
        neighbours.sort_unstable();
        neighbours.dedup();
        for (left, right) in neighbours {
            self.offer(left, right);
        }
    }

    fn merge(&mut self, left: u32, right: u32, text: Box<str>) {
        let merged = self.symbols.len() as u32;
        self.symbols.push(SymbolInfo { text, known: true });
        let words = self.pairs.remove((left, right));
        let mut risen = Vec::new();
        for index in words {
            let (symbols, count) = self.words.get_mut(index);
            let mut kept = 0;
            let mut position = 0;
            while position < symbols.len() {
                let here = symbols[position] == left && symbols.get(position + 1) == Some(&right);
                if !here {
                    symbols[kept] = symbols[position];
                    kept += 1;
                    position += 1;
                    continue;
                }
                if let Some(before) = kept.checked_sub(1).map(|before| symbols[before]) {
                    self.pairs.fall((before, left), count);
                    self.pairs.rise((before, merged), count, index, &mut risen);
                }
                symbols[kept] = merged;
                kept += 1;
                position += 2;
                if let Some(after) = symbols.get(position).copied() {
                    self.pairs.fall((right, after), count);
                    // Where the same pair follows at once, the next turn counts (merged, merged).
                    self.pairs.rise((merged, after), count, index, &mut risen);
                }
            }
            self.words.truncate(index, kept);
        }
        risen.sort_unstable();
        risen.dedup();
        for (left, right) in risen {
            self.offer(left, right);
        }
    }
}
