//! The words that a learner works on.

/// Words as symbols, one word's after the other's, and how often each occurs. A word that becomes shorter leaves a gap.
#[derive(Debug, Default)]
pub(crate) struct Words {
    symbols: Vec<u32>,
    words: Vec<Word>,
}

#[derive(Debug)]
struct Word {
    start: usize,
    length: usize,
    count: u64,
}

impl Words {
    /// Appends a word.
    pub(crate) fn push(&mut self, symbols: impl IntoIterator<Item = u32>, count: u64) {
        let start = self.symbols.len();
        self.symbols.extend(symbols);
        self.words.push(Word { start, length: self.symbols.len() - start, count });
    }

    /// The symbols of a word.
    pub(crate) fn symbols_of(&self, index: u32) -> &[u32] {
        let word = &self.words[index as usize];
        &self.symbols[word.start..word.start + word.length]
    }

    /// The symbols of a word, and its count.
    pub(crate) fn get_mut(&mut self, index: u32) -> (&mut [u32], u64) {
        let word = &self.words[index as usize];
        (&mut self.symbols[word.start..word.start + word.length], word.count)
    }

    /// Leaves a word so many of its first symbols.
    pub(crate) fn truncate(&mut self, index: u32, length: usize) {
        self.words[index as usize].length = length;
    }

    /// Each word's index, symbols and count.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &[u32], u64)> {
        (0..).zip(&self.words).map(|(index, word)| (index, self.symbols_of(index), word.count))
    }
}
