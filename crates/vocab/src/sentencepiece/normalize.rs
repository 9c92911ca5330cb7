//! Brings text into the form of a model's pieces, as SentencePiece's `normalizer.cc` does.

use super::proto::{NormalizerSpec, TrainerSpec};
use crate::trie::Trie;

/// SentencePiece's mark for a space, U+2581.
pub(crate) const SPACE: &str = "\u{2581}";
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// A normaliser.
#[derive(Clone, Debug)]
pub(crate) struct Normalizer {
    charsmap: Option<CharsMap>,
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) escape_whitespaces: bool,
    pub(crate) whitespace_is_suffix: bool,
}

impl Normalizer {
    pub(crate) fn new(spec: &NormalizerSpec, trainer: &TrainerSpec) -> Result<Self, String> {
        let charsmap = spec.precompiled_charsmap.as_deref().filter(|blob| !blob.is_empty());
        Ok(Self {
            charsmap: charsmap.map(CharsMap::new).transpose()?,
            add_dummy_prefix: spec.add_dummy_prefix.unwrap_or(true),
            remove_extra_whitespaces: spec.remove_extra_whitespaces.unwrap_or(true),
            escape_whitespaces: spec.escape_whitespaces.unwrap_or(true),
            whitespace_is_suffix: trainer.treat_whitespace_as_suffix.unwrap_or(false),
        })
    }

    /// Whether the text's characters are left as they are.
    pub(crate) fn is_identity(&self) -> bool {
        self.charsmap.is_none() && !self.remove_extra_whitespaces
    }

    /// Normalises `text` into `normalized`. With `origins`, these get for each byte of the result, and for its end, the
    /// position in `text` that it comes from. What `user_defined` matches is left alone by the characters' map.
    pub(crate) fn normalize(
        &self,
        text: &str,
        user_defined: Option<&Trie>,
        normalized: &mut String,
        origins: Option<&mut Vec<u32>>,
    ) {
        normalized.clear();
        if self.is_identity() && origins.is_none() {
            self.normalize_identically(text, normalized);
            return;
        }
        let mut bytes = std::mem::take(normalized).into_bytes();
        let mut unused = Vec::new();
        let traced = origins.is_some();
        let origins = origins.unwrap_or(&mut unused);
        origins.clear();
        let mut output = Output { bytes: &mut bytes, origins, traced, space: self.space() };
        self.normalize_into(text.as_bytes(), user_defined, &mut output);
        *normalized = String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
    }

    fn space(&self) -> &'static str {
        if self.escape_whitespaces { SPACE } else { " " }
    }

    fn normalize_identically(&self, text: &str, normalized: &mut String) {
        if text.is_empty() {
            return;
        }
        normalized.reserve(text.len() + text.len() / 2 + SPACE.len());
        if self.add_dummy_prefix && !self.whitespace_is_suffix {
            normalized.push_str(self.space());
        }
        let mut first = true;
        for part in text.split(' ') {
            if !first {
                normalized.push_str(self.space());
            }
            normalized.push_str(part);
            first = false;
        }
        if self.add_dummy_prefix && self.whitespace_is_suffix {
            normalized.push_str(self.space());
        }
    }

    fn normalize_into(&self, text: &[u8], user_defined: Option<&Trie>, output: &mut Output<'_>) {
        let mut consumed = 0;
        if self.remove_extra_whitespaces {
            while consumed < text.len() {
                let (replacement, length) = self.prefix(&text[consumed..], user_defined);
                if replacement != b" " {
                    break;
                }
                consumed += length;
            }
        }
        if consumed == text.len() {
            return;
        }
        if self.add_dummy_prefix && !self.whitespace_is_suffix {
            output.push_space(consumed);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while consumed < text.len() {
            let (mut replacement, length) = self.prefix(&text[consumed..], user_defined);
            while after_space && replacement.first() == Some(&b' ') {
                replacement = &replacement[1..];
            }
            if let Some(last) = replacement.last() {
                for &byte in replacement {
                    output.push(byte, consumed);
                }
                after_space = *last == b' ';
            }
            consumed += length;
            if !self.remove_extra_whitespaces {
                after_space = false;
            }
        }
        if self.remove_extra_whitespaces {
            while output.bytes.ends_with(output.space.as_bytes()) {
                let length = output.bytes.len() - output.space.len();
                output.bytes.truncate(length);
                if output.traced {
                    consumed = output.origins[length] as usize;
                    output.origins.truncate(length);
                }
            }
        }
        if self.add_dummy_prefix && self.whitespace_is_suffix {
            output.push_space(consumed);
        }
        if output.traced {
            output.origins.push(consumed as u32);
        }
    }

    /// What the longest matching rule makes of the beginning of `text`, and how many bytes it takes.
    fn prefix<'a>(&'a self, text: &'a [u8], user_defined: Option<&Trie>) -> (&'a [u8], usize) {
        if let Some((length, _)) = user_defined.and_then(|trie| trie.longest_prefix(text)) {
            return (&text[..length], length);
        }
        if let Some(found) = self.charsmap.as_ref().and_then(|charsmap| charsmap.longest(text)) {
            return found;
        }
        match character_length(text) {
            Some(length) => (&text[..length], length),
            None => (REPLACEMENT, 1),
        }
    }
}

struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    origins: &'a mut Vec<u32>,
    traced: bool,
    space: &'static str,
}

impl Output<'_> {
    fn push(&mut self, byte: u8, origin: usize) {
        if byte == b' ' {
            self.push_space(origin);
            return;
        }
        self.bytes.push(byte);
        if self.traced {
            self.origins.push(origin as u32);
        }
    }

    fn push_space(&mut self, origin: usize) {
        self.bytes.extend_from_slice(self.space.as_bytes());
        if self.traced {
            self.origins.extend(std::iter::repeat_n(origin as u32, self.space.len()));
        }
    }
}

/// The length of the character that `text` begins with, unless it is not one of UTF-8.
fn character_length(text: &[u8]) -> Option<usize> {
    let length = match text.first()? {
        0x00..=0x7F => 1,
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return None,
    };
    std::str::from_utf8(text.get(..length)?).ok().map(str::len)
}

/// A compiled map of characters: a darts-clone double array whose values are positions in a list of strings that end in
/// a zero byte (`Normalizer::DecodePrecompiledCharsMap`).
#[derive(Clone, Debug)]
struct CharsMap {
    units: Vec<u32>,
    strings: Vec<u8>,
}

impl CharsMap {
    fn new(blob: &[u8]) -> Result<Self, String> {
        let broken = || "its precompiled_charsmap is broken".to_owned();
        let (size, rest) = blob.split_first_chunk::<4>().ok_or_else(broken)?;
        let size = u32::from_le_bytes(*size) as usize;
        if size < 1024 || !size.is_multiple_of(1024) || size >= rest.len() {
            return Err(broken());
        }
        let (units, strings) = rest.split_at(size);
        if strings.last() != Some(&0) {
            return Err(broken());
        }
        let units = units.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { units, strings: strings.to_vec() })
    }

    /// The replacement of the longest key that `text` begins with, and the key's length.
    fn longest(&self, text: &[u8]) -> Option<(&[u8], usize)> {
        let mut longest = None;
        let mut position = offset(*self.units.first()?);
        for (index, &byte) in text.iter().enumerate() {
            position ^= usize::from(byte);
            let unit = *self.units.get(position)?;
            if unit & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            position ^= offset(unit);
            if (unit >> 8) & 1 == 1 {
                let value = self.units.get(position)? & !(1 << 31);
                longest = Some((value as usize, index + 1));
            }
        }
        let (start, length) = longest?;
        let string = self.strings.get(start..)?;
        let end = string.iter().position(|byte| *byte == 0)?;
        Some((&string[..end], length))
    }
}

/// How far a darts-clone unit's children are, as an exclusive or.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}
