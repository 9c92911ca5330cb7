//! How often each pair of neighbours occurs, and in which words.

use std::thread;

use super::sequences::Words;
use crate::hash::{FastMap, mix};

/// The least occurrences of a pair that is worth a piece.
pub(super) const LEAST_OCCURRENCES: u64 = 2;

type Key = (u32, u32);

/// The pairs that may become a piece. Each lies in the shard that its own hash says, so that threads can share the counting.
#[derive(Debug)]
pub(super) struct Pairs {
    shards: Vec<FastMap<Key, Pair>>,
}

#[derive(Debug, Default)]
struct Pair {
    count: u64,
    words: Vec<u32>,
}

impl Pairs {
    /// Counts the pairs of words, a thread for each shard. Those that are too rare are left out: a pair of symbols that
    /// are there at the beginning never becomes more frequent.
    pub(super) fn count(words: &Words, threads: usize) -> Self {
        let shards = threads.max(1);
        let count = |shard| count_shard(words, shard, shards);
        let shards = thread::scope(|scope| {
            let others: Vec<_> = (1..shards).map(|shard| scope.spawn(move || count(shard))).collect();
            let mut counted = vec![count(0)];
            for other in others {
                counted.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            counted
        });
        Self { shards }
    }

    /// All pairs.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.shards.iter().flat_map(|shard| shard.keys().copied())
    }

    /// How often a pair occurs; 0 where it is too rare from the beginning.
    pub(super) fn count_of(&self, key: Key) -> u64 {
        self.shards[shard_of(key, self.shards.len())].get(&key).map_or(0, |pair| pair.count)
    }

    /// Takes a pair away; gives the words that held it.
    pub(super) fn remove(&mut self, key: Key) -> Vec<u32> {
        self.shard_mut(key).remove(&key).unwrap_or_default().words
    }

    /// A pair occurs more often, in a word; `risen` hears of it.
    pub(super) fn rise(&mut self, key: Key, count: u64, word: u32, risen: &mut Vec<Key>) {
        let pair = self.shard_mut(key).entry(key).or_default();
        pair.count += count;
        note(&mut pair.words, word);
        if risen.last() != Some(&key) {
            risen.push(key);
        }
    }

    /// A pair occurs less often.
    pub(super) fn fall(&mut self, key: Key, count: u64) {
        let shard = self.shard_mut(key);
        if let Some(pair) = shard.get_mut(&key) {
            pair.count = pair.count.saturating_sub(count);
            if pair.count == 0 {
                shard.remove(&key);
            }
        }
    }

    fn shard_mut(&mut self, key: Key) -> &mut FastMap<Key, Pair> {
        let shard = shard_of(key, self.shards.len());
        &mut self.shards[shard]
    }
}

fn shard_of((left, right): Key, shards: usize) -> usize {
    if shards == 1 { 0 } else { mix(u64::from(left) << 32 | u64::from(right)) as usize % shards }
}

fn count_shard(words: &Words, shard: usize, shards: usize) -> FastMap<Key, Pair> {
    let is_here = |key: &Key| shard_of(*key, shards) == shard;
    let mut counts: FastMap<Key, u64> = FastMap::default();
    for (_, symbols, count) in words.each() {
        for key in keys_of(symbols).filter(is_here) {
            *counts.entry(key).or_default() += count;
        }
    }
    counts.retain(|_, count| *count >= LEAST_OCCURRENCES);
    let with_words = |(key, count)| (key, Pair { count, words: Vec::new() });
    let mut pairs: FastMap<Key, Pair> = counts.into_iter().map(with_words).collect();
    for (index, symbols, _) in words.each() {
        for key in keys_of(symbols).filter(is_here) {
            if let Some(pair) = pairs.get_mut(&key) {
                note(&mut pair.words, index);
            }
        }
    }
    pairs
}

fn keys_of(symbols: &[u32]) -> impl Iterator<Item = Key> {
    symbols.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Notes a word, once.
pub(super) fn note(words: &mut Vec<u32>, word: u32) {
    if words.last() != Some(&word) {
        words.push(word);
    }
}
