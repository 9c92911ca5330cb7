//! Counts the stretches that pieces are learned from, so that several threads can share the work.
//!
//! ```text
//! texts ──► WordCounter::count ──► CountedWords ─┐
//! texts ──► WordCounter::count ──► CountedWords ─┴─► WordCounts::add, in the order of the texts
//! ```
//!
//! The counts are those of one text after the other, whatever the texts are cut into and whoever counts them.

use super::LearnOptions;
use super::characters::CharacterTable;
use super::words::{SPACE, each_stretch};
use crate::error::Result;
use crate::hash::FastMap;
use crate::sentencepiece::Normalizer;
use crate::tokenizer::Tokenizer;

/// Beyond so many bytes of distinct stretches the rarest are forgotten.
const MOST_BYTES: usize = 1 << 29;
const BYTES_PER_STRETCH: usize = 48;

/// How texts are cut into words for learning.
#[derive(Clone, Debug)]
pub struct WordCounter {
    /// What brings a text into the form of a vocabulary's pieces; `None` where it is left as it is.
    normalizer: Option<Normalizer>,
    /// Whether a space stands before a text.
    prefix: bool,
    most_spaces: usize,
}

impl WordCounter {
    /// For a new vocabulary.
    pub fn new(options: &LearnOptions) -> Self {
        Self { normalizer: None, prefix: true, most_spaces: options.longest_piece }
    }

    /// For pieces that extend a vocabulary.
    pub fn extending(base: &Tokenizer) -> Result<Self> {
        let normalizer = &crate::extend::extensible(base)?.normalizer;
        let is_identity = normalizer.is_identity();
        Ok(Self {
            normalizer: (!is_identity).then(|| normalizer.clone()),
            prefix: is_identity && normalizer.add_dummy_prefix && !normalizer.whitespace_is_suffix,
            most_spaces: usize::MAX,
        })
    }

    /// Counts the words of some texts.
    pub fn count<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> CountedWords {
        let (mut joined, mut ends, mut normalized) = (String::new(), Vec::new(), String::new());
        for text in texts {
            let mut text = text.as_ref();
            if let Some(normalizer) = &self.normalizer {
                normalizer.normalize(text, None, &mut normalized, None);
                text = &normalized;
            }
            if self.prefix {
                joined.push(' ');
            }
            joined.push_str(text);
            ends.push(joined.len());
        }
        let mut counts: FastMap<&str, (usize, u64)> = FastMap::default();
        let mut first = 0;
        for end in &ends {
            each_stretch(&joined[first..*end], self.most_spaces, |range| {
                let start = first + range.start;
                counts.entry(&joined[start..first + range.end]).or_insert((start, 0)).1 += 1;
            });
            first = *end;
        }
        let stretches = counts.into_iter().map(|(text, (start, count))| (start, text.len(), count)).collect();
        CountedWords { joined, ends, most_spaces: self.most_spaces, stretches }
    }
}

/// The words of some texts and how often each occurs.
#[derive(Debug)]
pub struct CountedWords {
    /// The texts, one after the other.
    joined: String,
    /// Where each ends.
    ends: Vec<usize>,
    most_spaces: usize,
    /// Where each distinct stretch begins, its length in bytes, and how often it occurs.
    stretches: Vec<(usize, usize, u64)>,
}

impl CountedWords {
    /// How many texts were counted.
    pub fn texts(&self) -> usize {
        self.ends.len()
    }
}

/// How often each word of a corpus occurs.
#[derive(Debug)]
pub struct WordCounts {
    counts: FastMap<Box<str>, u64>,
    bytes: usize,
    most_bytes: usize,
    forgotten: u64,
    /// Those of the stretches that were forgotten.
    forgotten_characters: CharacterTable<u64>,
    /// A stretch whose spaces are being marked.
    marked: String,
}

impl Default for WordCounts {
    fn default() -> Self {
        Self::with_room(MOST_BYTES)
    }
}

impl WordCounts {
    fn with_room(most_bytes: usize) -> Self {
        Self {
            counts: FastMap::default(),
            bytes: 0,
            most_bytes,
            forgotten: 0,
            forgotten_characters: CharacterTable::default(),
            marked: String::new(),
        }
    }

    /// Adds the words of the texts that come next.
    pub fn add(&mut self, counted: &CountedWords) {
        let CountedWords { joined, ends, most_spaces, stretches } = counted;
        let bytes = |(start, length, _): &(usize, usize, u64)| room(&joined[*start..start + length]);
        if self.bytes + stretches.iter().map(bytes).sum::<usize>() <= self.most_bytes {
            for (start, length, count) in stretches {
                self.count(&joined[*start..start + length], *count);
            }
            return;
        }
        // What is forgotten depends on what came before, so that here each word is taken in its turn.
        let mut first = 0;
        for end in ends {
            let text = &joined[first..*end];
            each_stretch(text, *most_spaces, |range| self.count(&text[range], 1));
            first = *end;
        }
    }

    fn count(&mut self, stretch: &str, times: u64) {
        let mut stretch = stretch;
        if stretch.contains(' ') {
            self.marked.clear();
            self.marked.extend(stretch.chars().map(|character| if character == ' ' { SPACE } else { character }));
            stretch = &self.marked;
        }
        match self.counts.get_mut(stretch) {
            Some(count) => *count += times,
            None => {
                self.bytes += room(stretch);
                self.counts.insert(stretch.into(), times);
                if self.bytes > self.most_bytes {
                    self.forget();
                }
            }
        }
    }

    /// Forgets the stretches that occurred least often until half of the room is free.
    fn forget(&mut self) {
        while self.bytes > self.most_bytes / 2 {
            self.forgotten += 1;
            let (least, characters) = (self.forgotten, &mut self.forgotten_characters);
            self.counts.retain(|text, count| {
                let is_kept = *count > least;
                if !is_kept {
                    add_characters(characters, text, *count);
                }
                is_kept
            });
            self.bytes = self.counts.keys().map(|text| room(text)).sum();
        }
    }

    /// The stretches and their counts.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(text, count)| (&**text, *count))
    }

    /// The stretches and their counts, the most frequent first, equals in order of their text.
    pub(super) fn sorted(self) -> Vec<(Box<str>, u64)> {
        let mut words: Vec<_> = self.counts.into_iter().collect();
        words.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        words
    }

    /// The characters and their counts, the most frequent first, equals in order.
    pub(super) fn characters(&self) -> Vec<(char, u64)> {
        let mut characters = self.forgotten_characters.clone();
        for (text, count) in &self.counts {
            add_characters(&mut characters, text, *count);
        }
        let mut characters: Vec<_> = characters.iter().filter(|(_, count)| *count > 0).collect();
        characters.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
        characters
    }
}

/// What a stretch takes, its spaces marked.
fn room(stretch: &str) -> usize {
    let spaces = stretch.bytes().filter(|byte| *byte == b' ').count();
    stretch.len() + spaces * (SPACE.len_utf8() - 1) + BYTES_PER_STRETCH
}

fn add_characters(characters: &mut CharacterTable<u64>, text: &str, count: u64) {
    for character in text.chars() {
        *characters.get_mut(character) += count;
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_PER_STRETCH, LearnOptions, WordCounter, WordCounts};
    use crate::learn::words::each_stretch;
    use std::collections::BTreeMap;

    /// Texts with words that recur, words that come once, and spaces of both kinds.
    fn texts() -> Vec<String> {
        let word = |number: usize| format!("w{}", char::from(b'a' + (number % 26) as u8)).repeat(1 + number % 5);
        (0..400_usize)
            .map(|text| {
                let words =
                    (0..30).map(|place| word(text * text + place * place * 7)).chain([format!("x\u{4E00}y{text}z")]);
                words.collect::<Vec<_>>().join(if text % 3 == 0 { "\u{2581}" } else { " " })
            })
            .collect()
    }

    /// What one learns who counts one word after the other.
    fn counted_by_word(texts: &[String], most_bytes: usize) -> (BTreeMap<String, u64>, BTreeMap<char, u64>, u64) {
        let (mut counts, mut characters, mut forgotten) = (BTreeMap::<String, u64>::new(), BTreeMap::new(), 0);
        let room =
            |counts: &BTreeMap<String, u64>| counts.keys().map(|word| word.len() + BYTES_PER_STRETCH).sum::<usize>();
        for text in texts {
            let text = format!(" {text}").replace(' ', "\u{2581}");
            each_stretch(&text, 16, |range| {
                *counts.entry(text[range.clone()].to_owned()).or_default() += 1;
                text[range].chars().for_each(|character| *characters.entry(character).or_default() += 1);
                if room(&counts) > most_bytes {
                    while room(&counts) > most_bytes / 2 {
                        forgotten += 1;
                        counts.retain(|_, count| *count > forgotten);
                    }
                }
            });
        }
        (counts, characters, forgotten)
    }

    #[test]
    fn counts_are_those_of_one_word_after_the_other() {
        let texts = texts();
        let counter = WordCounter::new(&LearnOptions::default());
        for most_bytes in [1 << 20, 6000, 4000] {
            let (expected, expected_characters, forgotten) = counted_by_word(&texts, most_bytes);
            assert_eq!(forgotten > 1, most_bytes < 1 << 20);
            for texts_at_once in [1, 2, 7, 400] {
                let mut counts = WordCounts::with_room(most_bytes);
                for chunk in texts.chunks(texts_at_once) {
                    let counted = counter.count(chunk);
                    assert_eq!(counted.texts(), chunk.len());
                    counts.add(&counted);
                }
                let characters: BTreeMap<char, u64> = counts.characters().into_iter().collect();
                assert_eq!(characters, expected_characters, "{most_bytes} {texts_at_once}");
                let words: BTreeMap<String, u64> =
                    counts.sorted().into_iter().map(|(word, count)| (word.into(), count)).collect();
                assert_eq!(words, expected, "{most_bytes} {texts_at_once}");
            }
        }
    }
}
