//! Hugging Face's `tokenizer.json`: by our own byte pair encoding where it is byte-level, else, and for what is rare,
//! through the `tokenizers` library.

use crate::byte_level::ByteLevel;
use crate::error::{Error, Result};
use tokenizers::Tokenizer as Library;

/// A `tokenizer.json`, set so that text never gives a special token.
#[derive(Clone, Debug)]
pub(crate) struct JsonTokenizer {
    /// The file.
    pub(crate) file: Vec<u8>,
    library: Library,
    byte_level: Option<Box<ByteLevel>>,
    size: usize,
}

impl JsonTokenizer {
    /// Reads a `tokenizer.json`.
    pub(crate) fn new(file: Vec<u8>) -> Result<Self, String> {
        let mut library =
            Library::from_bytes(&file).map_err(|error| format!("it is not a tokenizer.json ({error})"))?;
        library.set_encode_special_tokens(true);
        library.with_padding(None);
        library.with_truncation(None).map_err(|error| error.to_string())?;
        let size = library.get_vocab(true).values().map(|id| *id as usize + 1).max().unwrap_or(0);
        let byte_level = ByteLevel::recognise(&file).map(Box::new);
        Ok(Self { file, library, byte_level, size })
    }

    /// One more than the highest id.
    pub(crate) fn vocabulary_size(&self) -> usize {
        self.size
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if let Some(ids) = self.byte_level.as_ref().and_then(|byte_level| byte_level.encode(text)) {
            return Ok(ids);
        }
        self.encode_by_library(text)
    }

    pub(crate) fn encode_by_library(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.library.encode_fast(text, false).map_err(|error| Error::Encode(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(crate) fn encode_with_ends(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let encoding = self.library.encode(text, false).map_err(|error| Error::Encode(error.to_string()))?;
        let mut last = 0;
        let ends = encoding.get_offsets().iter().map(|(_, end)| {
            last = last.max(*end as u32);
            last
        });
        Ok((encoding.get_ids().to_vec(), ends.collect()))
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        self.library.decode(ids, true).unwrap_or_default()
    }

    pub(crate) fn piece(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }

    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.library.token_to_id(piece)
    }

    /// Feeds what decides ids to a hash.
    pub(crate) fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"tokenizer.json");
        let mut value: serde_json::Value = serde_json::from_slice(&self.file).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.retain(|key, _| matches!(key.as_str(), "added_tokens" | "normalizer" | "pre_tokenizer" | "model"));
        }
        hasher.update(value.to_string().as_bytes());
    }
}
