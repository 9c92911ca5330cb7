//! What single tokens are called in answers.

use std::path::Path;
use std::sync::Arc;

use palimpsest_vocab::Tokenizer;

use super::SpecialTokens;
use crate::error::Result;

/// What a token is called: its text, and its bytes, which need not be whole characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenText {
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
}

/// Calls tokens by their texts.
#[derive(Clone, Debug)]
pub(crate) struct TokenTexts {
    tokenizer: Arc<Tokenizer>,
    special: Arc<SpecialTokens>,
    /// A token before which no space is dropped, and its text.
    before: (Vec<u32>, String),
    calls_by_id: bool,
}

impl TokenTexts {
    /// With `calls_by_id` a token is called `token_id:ID`, which two tokens never share.
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, special: Arc<SpecialTokens>, calls_by_id: bool) -> Self {
        let before = tokenizer.encode("a").unwrap_or_default();
        let text = tokenizer.decode(&before);
        Self { tokenizer, special, before: (before, text), calls_by_id }
    }

    /// What a token is called.
    pub(crate) fn of(&self, id: u32) -> TokenText {
        if self.calls_by_id {
            let text = format!("token_id:{id}");
            return TokenText { bytes: text.clone().into_bytes(), text };
        }
        if let Some(text) = self.special.text_of(id) {
            return TokenText { text: text.to_owned(), bytes: text.as_bytes().to_vec() };
        }
        let (before, before_text) = &self.before;
        let ids: Vec<u32> = before.iter().copied().chain([id]).collect();
        let text = self.tokenizer.decode(&ids);
        let text = text.strip_prefix(before_text.as_str()).unwrap_or(&text).to_owned();
        let is_partial = text.contains('\u{FFFD}');
        let bytes = is_partial.then(|| self.tokenizer.piece(id)).flatten().and_then(|piece| bytes_of(&piece));
        TokenText { bytes: bytes.unwrap_or_else(|| text.clone().into_bytes()), text }
    }
}

/// What gives the bytes that each token adds to a text, by its id, up to a vocabulary's size: what
/// [`Grammars`](palimpsest_infer::Grammars) are made of. The tokenizer is that of a model's folder, of which the rest is read here; the bytes of
/// all tokens take longer. Those that stand for no text, and those that there are not, have none.
pub fn token_bytes(folder: &Path, tokenizer: Tokenizer) -> Result<impl FnOnce(usize) -> Vec<Vec<u8>> + Send + use<>> {
    let tokenizer = Arc::new(tokenizer);
    let special = Arc::new(SpecialTokens::read(folder, &tokenizer)?);
    Ok(move |vocabulary| {
        let texts = TokenTexts::new(Arc::clone(&tokenizer), Arc::clone(&special), false);
        let bytes_of = |id: usize| match u32::try_from(id) {
            Ok(id) if id < tokenizer.vocabulary_size() as u32 && special.text_of(id).is_none() => texts.of(id).bytes,
            _ => Vec::new(),
        };
        (0..vocabulary).map(bytes_of).collect()
    })
}

/// The bytes of a piece written `<0xE4>`, or in the characters by which byte-level vocabularies write bytes.
fn bytes_of(piece: &str) -> Option<Vec<u8>> {
    if let Some(digits) = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')) {
        return Some(vec![u8::from_str_radix(digits, 16).ok()?]);
    }
    piece.chars().map(byte_of).collect()
}

/// The byte that a character of a byte-level vocabulary writes: what is printable in Latin-1 is itself, the others follow from 256.
fn byte_of(character: char) -> Option<u8> {
    let is_itself = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_itself(&byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|byte| !is_itself(byte)).nth(code.checked_sub(256)? as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_characters_have_bytes() {
        assert_eq!(bytes_of("<0xE4>"), Some(vec![0xE4]));
        assert_eq!(bytes_of("Ġä¸"), Some(vec![b' ', 0xE4, 0xB8]));
        assert_eq!(bytes_of("Ċ"), Some(vec![b'\n']));
        assert_eq!(bytes_of("你"), None);
    }
}
