//! Cuts text into the stretches that pieces are learned from, and counts them.

use crate::hash::FastMap;
use unicode_script::{Script, UnicodeScript};

const SPACE: char = '\u{2581}';
/// A longer stretch is cut: no piece is nearly so long, and the learner goes over whole stretches.
const LONGEST_STRETCH: usize = 128;
/// Beyond so many bytes of distinct stretches the rarest are forgotten.
const MOST_BYTES: usize = 1 << 29;
const BYTES_PER_STRETCH: usize = 48;

/// How often each stretch and each character of a corpus occurs.
#[derive(Debug, Default)]
pub(crate) struct WordCounts {
    counts: FastMap<Box<str>, u64>,
    bytes: usize,
    forgotten: u64,
    characters: FastMap<char, u64>,
}

impl WordCounts {
    /// Counts a text, whose spaces are marked when `prefix` says that one stands before it.
    pub(crate) fn add(&mut self, text: &str, prefix: bool, most_spaces: usize) {
        let mut stretch = Stretch { text: String::with_capacity(64), length: 0, previous: Class::Edge };
        let first = prefix.then_some(SPACE);
        for character in first.into_iter().chain(text.chars()) {
            let character = if character == ' ' { SPACE } else { character };
            let class = Class::of(character);
            if !stretch.joins(class, most_spaces) {
                self.count(&mut stretch);
            }
            if class == Class::Edge {
                stretch.previous = Class::Edge;
                continue;
            }
            *self.characters.entry(character).or_default() += 1;
            stretch.push(character, class);
        }
        self.count(&mut stretch);
    }

    fn count(&mut self, stretch: &mut Stretch) {
        if !stretch.text.is_empty() {
            match self.counts.get_mut(stretch.text.as_str()) {
                Some(count) => *count += 1,
                None => {
                    self.bytes += stretch.text.len() + BYTES_PER_STRETCH;
                    self.counts.insert(stretch.text.as_str().into(), 1);
                    if self.bytes > MOST_BYTES {
                        self.forget();
                    }
                }
            }
        }
        stretch.text.clear();
        stretch.length = 0;
        stretch.previous = Class::Edge;
    }

    /// Forgets the stretches that occurred least often until half of the room is free.
    fn forget(&mut self) {
        while self.bytes > MOST_BYTES / 2 {
            self.forgotten += 1;
            let least = self.forgotten;
            self.counts.retain(|_, count| *count > least);
            self.bytes = self.counts.keys().map(|text| text.len() + BYTES_PER_STRETCH).sum();
        }
    }

    /// The stretches and their counts, the most frequent first, equals in order of their text.
    pub(crate) fn sorted(self) -> Vec<(Box<str>, u64)> {
        let mut words: Vec<_> = self.counts.into_iter().collect();
        words.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        words
    }

    /// The characters and their counts, the most frequent first, equals in order.
    pub(crate) fn characters(&self) -> Vec<(char, u64)> {
        let mut characters: Vec<_> = self.characters.iter().map(|(character, count)| (*character, *count)).collect();
        characters.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
        characters
    }
}

/// What decides whether two neighbours can be in one piece: SentencePiece's rules with `split_by_unicode_script`,
/// `split_by_whitespace`, `split_digits` and `allow_whitespace_only_pieces`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    /// Never in a piece: line ends and other control characters.
    Edge,
    /// A mark of a space: only at the beginning of a piece, or in one of spaces only.
    Space,
    /// A piece of its own.
    Digit,
    /// Takes on the script before it.
    Inherited,
    /// A character of a script.
    Of(Script),
}

impl Class {
    fn of(character: char) -> Self {
        match character {
            SPACE => Self::Space,
            '0'..='9' | '\u{FF10}'..='\u{FF19}' => Self::Digit,
            '\u{30FC}' => Self::Of(Script::Han),
            _ if character.is_control() => Self::Edge,
            _ => match character.script() {
                Script::Hiragana | Script::Katakana => Self::Of(Script::Han),
                Script::Inherited => Self::Inherited,
                script => Self::Of(script),
            },
        }
    }
}

struct Stretch {
    text: String,
    length: usize,
    previous: Class,
}

impl Stretch {
    fn joins(&self, class: Class, most_spaces: usize) -> bool {
        if self.length >= LONGEST_STRETCH {
            return false;
        }
        match (self.previous, class) {
            (Class::Edge | Class::Digit, _) | (_, Class::Edge | Class::Digit) => false,
            (Class::Space, Class::Space) => self.length < most_spaces,
            (_, Class::Space) => false,
            (Class::Space | Class::Inherited, _) | (_, Class::Inherited) => true,
            (one, other) => one == other,
        }
    }

    fn push(&mut self, character: char, class: Class) {
        self.text.push(character);
        self.length += 1;
        if class != Class::Inherited || !matches!(self.previous, Class::Of(_)) {
            self.previous = class;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WordCounts;

    fn stretches(text: &str, prefix: bool) -> Vec<String> {
        let mut counts = WordCounts::default();
        counts.add(text, prefix, usize::MAX);
        let mut words: Vec<String> = counts.sorted().into_iter().map(|(text, _)| text.into()).collect();
        words.sort();
        words
    }

    #[test]
    fn cuts_where_no_piece_can_span() {
        assert_eq!(stretches("a cat, 2 dogs", true), [",", "2", "▁", "▁a", "▁cat", "▁dogs"]);
        assert_eq!(stretches("中国abc，かな", false), ["abc", "かな", "中国", "，"]);
        assert_eq!(stretches("line\nline\tend", true), ["end", "line", "▁line"]);
        assert_eq!(stretches("x   y", false), ["x", "▁▁▁y"]);
        assert_eq!(stretches("e\u{301}a中\u{301}", false), ["e\u{301}a", "中\u{301}"]);
    }
}
