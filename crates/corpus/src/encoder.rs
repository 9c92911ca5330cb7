//! What preparation asks of a tokenizer, and a document's ids.

use crate::error::{Error, Result};

/// A document as ids, with its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedDocument {
    /// BOS, prompt, text, EOS. Where the tokenizer has no BOS, EOS stands in.
    pub ids: Vec<u32>,
    /// How many of the first ids are not the text's: BOS and those wholly inside the prompt.
    pub prompt_ids: usize,
    /// UTF-8 bytes of the text, the prompt's not counted.
    pub text_bytes: u64,
    /// What is before the text; empty where there is none.
    pub prompt: String,
    /// The text.
    pub text: String,
}

impl EncodedDocument {
    /// A document in the ids of a tokenizer.
    pub fn new(prompt: String, text: String, encoder: &dyn TextEncoder) -> Result<Self> {
        let mut ids = Vec::new();
        let prompt_ids = encode_document(encoder, Ends::of(encoder)?, &prompt, &text, &mut ids)? as usize;
        Ok(Self { ids, prompt_ids, text_bytes: text.len() as u64, prompt, text })
    }

    /// The same document in the ids of another tokenizer.
    pub fn encode_with(&self, encoder: &dyn TextEncoder) -> Result<Self> {
        Self::new(self.prompt.clone(), self.text.clone(), encoder)
    }
}

/// An error of a tokenizer.
pub type EncoderError = Box<dyn std::error::Error + Send + Sync>;

/// What preparation asks of a tokenizer.
pub trait TextEncoder: Sync {
    /// The ids of a text, without special ones: `</s>` in a text is plain text.
    fn encode(&self, text: &str) -> Result<Vec<u32>, EncoderError>;

    /// The ids of a text and, for each, the byte offset in the text where what it stands for ends.
    fn encode_with_ends(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>), EncoderError>;

    /// The text of ids.
    fn decode(&self, ids: &[u32]) -> String;

    /// The beginning-of-sequence id.
    fn bos(&self) -> Option<u32>;

    /// The end-of-sequence id.
    fn eos(&self) -> Option<u32>;

    /// A digest of all that decides ids.
    fn digest(&self) -> String;
}

impl TextEncoder for palimpsest_vocab::Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, EncoderError> {
        Ok(self.encode(text)?)
    }

    fn encode_with_ends(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>), EncoderError> {
        let palimpsest_vocab::Encoding { ids, ends } = self.encode_with_ends(text)?;
        Ok((ids, ends))
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.decode(ids)
    }

    fn bos(&self) -> Option<u32> {
        self.bos()
    }

    fn eos(&self) -> Option<u32> {
        self.eos()
    }

    fn digest(&self) -> String {
        self.digest()
    }
}

/// The ids that begin and end each document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) begin: u32,
    pub(crate) end: u32,
}

impl Ends {
    /// Those of a tokenizer. Where there is no BOS, as in Qwen's, the EOS id stands in: it is what such a model saw before
    /// each document in its own training, and without it the first id of a text could not be a target.
    pub(crate) fn of(encoder: &dyn TextEncoder) -> Result<Self> {
        let end = encoder.eos().ok_or(Error::NoEndOfSequence)?;
        Ok(Self { begin: encoder.bos().unwrap_or(end), end })
    }
}

/// Appends the ids of a document to `ids`: BOS + (prompt + text, encoded as one string) + EOS. Gives how many of the first
/// are no targets: BOS and those wholly inside the prompt.
pub(crate) fn encode_document(
    encoder: &dyn TextEncoder,
    ends: Ends,
    prompt: &str,
    text: &str,
    ids: &mut Vec<u32>,
) -> Result<u32> {
    ids.push(ends.begin);
    let mut prompt_ids = 1;
    if prompt.is_empty() {
        ids.extend(encoder.encode(text).map_err(Error::Encoder)?);
    } else {
        let (encoded, places) = encoder.encode_with_ends(&[prompt, text].concat()).map_err(Error::Encoder)?;
        prompt_ids += places.iter().take_while(|end| **end as usize <= prompt.len()).count() as u32;
        ids.extend(encoded);
    }
    ids.push(ends.end);
    Ok(prompt_ids)
}
