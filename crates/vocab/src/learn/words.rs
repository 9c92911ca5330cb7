//! Cuts text into the stretches that pieces are learned from.

use std::ops::Range;
use std::sync::LazyLock;

use unicode_script::{Script, UnicodeScript};

pub(super) const SPACE: char = '\u{2581}';
/// A longer stretch is cut: no piece is nearly so long, and the learner goes over whole stretches.
const LONGEST_STRETCH: usize = 128;

/// Gives each stretch of a text, in order. A space counts as its mark.
pub(super) fn each_stretch(text: &str, most_spaces: usize, mut visit: impl FnMut(Range<usize>)) {
    let mut stretch = Stretch { start: 0, length: 0, previous: Class::Edge };
    for (at, character) in text.char_indices() {
        let class = Class::of(character);
        if !stretch.joins(class, most_spaces) {
            if stretch.length > 0 {
                visit(stretch.start..at);
            }
            stretch = Stretch { start: at, length: 0, previous: Class::Edge };
        }
        if class != Class::Edge {
            stretch.push(class);
        }
    }
    if stretch.length > 0 {
        visit(stretch.start..text.len());
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

/// The classes of U+0000 to U+FFFF.
static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let class = |number: u32| char::from_u32(number).map_or(Class::Edge, Class::find);
    (0..1 << 16).map(class).collect()
});

impl Class {
    #[inline]
    fn of(character: char) -> Self {
        CLASSES.get(character as usize).copied().unwrap_or_else(|| Self::find(character))
    }

    fn find(character: char) -> Self {
        match character {
            SPACE | ' ' => Self::Space,
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
    start: usize,
    /// In characters.
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

    fn push(&mut self, class: Class) {
        self.length += 1;
        if class != Class::Inherited || !matches!(self.previous, Class::Of(_)) {
            self.previous = class;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::each_stretch;

    #[test]
    fn cuts_where_no_piece_can_span() {
        let stretches = |text: &str| {
            let mut stretches = Vec::new();
            each_stretch(text, usize::MAX, |range| stretches.push(text[range].to_owned()));
            stretches
        };
        assert_eq!(stretches(" a cat, 2 dogs"), [" a", " cat", ",", " ", "2", " dogs"]);
        assert_eq!(stretches("中国abc，かな"), ["中国", "abc", "，", "かな"]);
        assert_eq!(stretches("\nline\n\nline\tend\r"), ["line", "line", "end"]);
        assert_eq!(stretches("x  \u{2581}y"), ["x", "  \u{2581}y"]);
        assert_eq!(stretches("e\u{301}a中\u{301}"), ["e\u{301}a", "中\u{301}"]);
        assert_eq!(stretches(&"𠀀".repeat(130)), ["𠀀".repeat(128), "𠀀".repeat(2)]);
    }
}
