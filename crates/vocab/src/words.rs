//! Cuts text into the words of tiktoken's cl100k and of Qwen, whose tokens never cross from one to the next.
//!
//! Both are given by a regular expression with a look-ahead, at each place the first alternative that matches:
//!
//! ```text
//! (?i:'s|'t|'re|'ve|'m|'ll|'d)      a contraction
//! [^\r\n\p{L}\p{N}]?\p{L}+          letters, with a character before them
//! \p{N}{1,3}                        up to three digits; Qwen: one
//!  ?[^\s\p{L}\p{N}]+[\r\n]*         other characters, with a space before and line ends after them
//! \s*[\r\n]+                        spaces up to the last line end
//! \s+(?!\S)                         spaces but the last before something else
//! \s+                               spaces
//! ```

use std::sync::LazyLock;

/// What a vocabulary's words are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct WordRule {
    /// The most digits of a word.
    pub(crate) digits: usize,
}

impl WordRule {
    /// As a regular expression, for a tokenizer.json.
    pub(crate) fn pattern(self) -> String {
        let digits = if self.digits == 1 { String::new() } else { format!("{{1,{}}}", self.digits) };
        [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
            &digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]
        .concat()
    }

    /// The length in bytes of the word that a text, which is not empty, begins with.
    pub(crate) fn first_word(self, text: &str) -> usize {
        let mut characters = text.chars();
        let Some(first) = characters.next() else { return 0 };
        if first == '\''
            && let Some(length) = contraction(characters.as_str())
        {
            return 1 + length;
        }
        let class = Class::of(first);
        let after_first = characters.as_str();
        let letters = run(after_first, |class| class == Class::Letter);
        let may_precede = matches!(class, Class::Other | Class::Space);
        if class == Class::Letter || may_precede && letters > 0 {
            return first.len_utf8() + letters;
        }
        if class == Class::Number {
            let digits = text.chars().take(self.digits).take_while(|digit| Class::of(*digit) == Class::Number);
            return digits.map(char::len_utf8).sum();
        }
        let before = usize::from(first == ' ');
        let others = run(&text[before..], |class| class == Class::Other);
        if others > 0 {
            let end = before + others;
            return end + run(&text[end..], |class| class == Class::LineEnd);
        }
        spaces(text)
    }
}

/// The length in bytes of the first word by GPT-2's rule, of a text that is not empty:
///
/// ```text
/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// ```
pub(crate) fn first_word_of_gpt2(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => return 2,
        [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => return 3,
        _ => {}
    }
    let before = usize::from(bytes.first() == Some(&b' '));
    let class = text[before..].chars().next().map(Class::of);
    match class {
        Some(class @ (Class::Letter | Class::Number | Class::Other)) => {
            before + run(&text[before..], |other| other == class)
        }
        _ => {
            let length = run(text, |class| matches!(class, Class::Space | Class::LineEnd));
            let last = text[..length].chars().next_back().map_or(0, char::len_utf8);
            if length < text.len() && length > last { length - last } else { length }
        }
    }
}

/// What follows the apostrophe of a contraction. The long s is an s in another case.
fn contraction(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    let (first, second) = (characters.next()?, characters.next());
    let second = second.map(|character| character.to_ascii_lowercase());
    match (first.to_ascii_lowercase(), second) {
        ('s' | 't' | 'm' | 'd', _) => Some(1),
        ('\u{17F}', _) => Some(2),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(2),
        _ => None,
    }
}

fn spaces(text: &str) -> usize {
    let length = run(text, |class| matches!(class, Class::Space | Class::LineEnd));
    let spaces = &text[..length];
    if let Some(line_end) = spaces.rfind(['\r', '\n']) {
        return line_end + 1;
    }
    let last = spaces.chars().next_back().map_or(0, char::len_utf8);
    if length < text.len() && length > last { length - last } else { length }
}

#[inline]
fn run(text: &str, belongs: impl Fn(Class) -> bool) -> usize {
    text.char_indices().find(|(_, character)| !belongs(Class::of(*character))).map_or(text.len(), |(end, _)| end)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Letter,
    Number,
    LineEnd,
    Space,
    Other,
}

impl Class {
    #[inline]
    fn of(character: char) -> Self {
        match CLASSES.0.get(character as usize) {
            Some(class) => *class,
            None => astral(character),
        }
    }
}

/// The classes of U+0000 to U+FFFF, and the ranges of letters and numbers.
static CLASSES: LazyLock<(Vec<Class>, Ranges, Ranges)> = LazyLock::new(|| {
    let (letters, numbers) = (ranges(r"\p{L}"), ranges(r"\p{N}"));
    let class = |number: u32| {
        let Some(character) = char::from_u32(number) else { return Class::Other };
        if contains(&letters, character) {
            Class::Letter
        } else if contains(&numbers, character) {
            Class::Number
        } else if matches!(character, '\r' | '\n') {
            Class::LineEnd
        } else if character.is_whitespace() {
            Class::Space
        } else {
            Class::Other
        }
    };
    ((0..1 << 16).map(class).collect(), letters, numbers)
});

type Ranges = Vec<(char, char)>;

fn astral(character: char) -> Class {
    let (_, letters, numbers) = &*CLASSES;
    match (contains(letters, character), contains(numbers, character)) {
        (true, _) => Class::Letter,
        (_, true) => Class::Number,
        _ => Class::Other,
    }
}

fn contains(ranges: &Ranges, character: char) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= character);
    after.checked_sub(1).is_some_and(|index| character <= ranges[index].1)
}

/// The characters of a class of a regular expression, in the Unicode version of the `regex` library.
fn ranges(class: &str) -> Ranges {
    use regex_syntax::hir::{Class, HirKind};
    match regex_syntax::parse(class).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class.iter().map(|range| (range.start(), range.end())).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::WordRule;

    #[test]
    fn cuts_as_the_regular_expression_does() {
        let words = |digits, mut text: &str| {
            let mut words = Vec::new();
            while !text.is_empty() {
                let (word, rest) = text.split_at(WordRule { digits }.first_word(text));
                words.push(word.to_owned());
                text = rest;
            }
            words.join("|")
        };
        assert_eq!(words(3, "I'LL pay $12345, don't  worry"), "I|'LL| pay| $|123|45|,| don|'t| | worry");
        assert_eq!(words(1, "a1234 中国\n\n \n x   "), "a|1|2|3|4| 中国|\n\n \n| x|   ");
        assert_eq!(words(1, "!!\r\n  \t'ſ'RExyz'"), "!!\r\n|  |\t|'ſ|'RE|xyz|'");
        assert_eq!(words(1, "\u{A0}é \u{A0}\u{1F600}5"), "\u{A0}é| |\u{A0}|\u{1F600}|5");
    }
}
