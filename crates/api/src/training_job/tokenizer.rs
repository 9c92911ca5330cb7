//! The tokenizer, and how it is extended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits;

/// The tokenizer: `uri`, `learn` or neither (the model's own), then perhaps an extension.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenizerSpec {
    /// A folder or file: tokenizer.json, SentencePiece .model or .tiktoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::URI))]
    pub uri: Option<String>,
    /// Learn one from datasets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<LearnTokenizer>,
    /// Append pieces to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<TokenizerExtension>,
}

/// A tokenizer learned from datasets of the job.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LearnTokenizer {
    /// The number of ids, special and byte pieces included.
    pub vocabulary_size: u32,
    /// The names of the datasets to learn from.
    #[schemars(length(max = limits::DATASETS), inner(length(max = limits::NAME)))]
    pub from: Vec<String>,
}

/// Pieces appended to a tokenizer: exactly one of `learnFrom` and `pieces`.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenizerExtension {
    /// The number of ids afterwards.
    pub vocabulary_size: u32,
    /// The names of the datasets to learn pieces from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::DATASETS), inner(length(max = limits::NAME)))]
    pub learn_from: Vec<String>,
    /// A file of pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<PiecesSource>,
    /// How the new rows of the embedding and the head begin.
    #[serde(default)]
    pub embeddings: EmbeddingInitialization,
}

/// JSONL of `{"piece": ...}`.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PiecesSource {
    /// The file.
    #[schemars(length(max = limits::URI))]
    pub uri: String,
}

/// How new rows of the embedding and the head begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum EmbeddingInitialization {
    /// The mean of the rows of the old ids that spell the piece.
    #[default]
    Mean,
    /// Normal, with the model's `initializer_range`.
    Random,
}
