//! The datasets and how they are packed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{defaults, limits};
use crate::Decimal;

/// The datasets and how they are packed.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataSpec {
    /// Input positions of a sequence.
    #[serde(default = "defaults::sequence_length")]
    pub sequence_length: u32,
    /// How documents fill sequences.
    #[serde(default)]
    pub packing: Packing,
    /// What a position may attend to.
    #[serde(default)]
    pub attention: Attention,
    /// Where packed data is kept; default: beside the checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
    /// The sub-datasets.
    #[schemars(length(max = limits::DATASETS))]
    pub datasets: Vec<Dataset>,
}

/// Where packed data is kept.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prepared {
    /// The folder.
    #[schemars(length(max = limits::URI))]
    pub uri: String,
}

/// How documents fill sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Packing {
    /// Best-fit decreasing: documents are split only where they exceed a sequence.
    #[default]
    BestFit,
    /// Documents follow one another and are split where a sequence ends.
    Splice,
}

/// What a position may attend to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Attention {
    /// Its own document, causally.
    #[default]
    Document,
    /// All before it in the sequence.
    Sequence,
}

/// A sub-dataset.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dataset {
    /// The name that mixtures and evaluations use.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// A file or a folder.
    #[schemars(length(max = limits::URI))]
    pub uri: String,
    /// The format of its files.
    #[serde(default)]
    pub format: DatasetFormat,
    /// Which fields of a record hold what.
    #[serde(default)]
    pub fields: Fields,
    /// A language tag, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::TEXT))]
    pub language: Option<String>,
    /// The part that is never trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_out: Option<HoldOut>,
    /// Filters and deduplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Preparation>,
}

/// The format of a dataset's files, each plain, .gz or .zst (Parquet has its own compression).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum DatasetFormat {
    /// A JSON object a line.
    #[default]
    Jsonl,
    /// Parquet with string columns.
    Parquet,
    /// A file is a document.
    Text,
}

/// Which fields of a record hold what.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fields {
    /// The text that is trained on.
    #[serde(default = "defaults::text_field")]
    #[schemars(length(max = limits::TEXT))]
    pub text: String,
    /// The prompt before it, masked from the loss; a record may lack it.
    #[serde(default = "defaults::prompt_field")]
    #[schemars(length(max = limits::TEXT))]
    pub prompt: String,
    /// The category; a record may lack it.
    #[serde(default = "defaults::category_field")]
    #[schemars(length(max = limits::TEXT))]
    pub category: String,
}

impl Default for Fields {
    fn default() -> Self {
        Self { text: defaults::text_field(), prompt: defaults::prompt_field(), category: defaults::category_field() }
    }
}

/// The part of a dataset that is never trained on, by any job.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldOut {
    /// Between 0 and 1.
    pub fraction: Decimal,
}

/// Filters and deduplication before the hold-out.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preparation {
    /// Filters, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::FILTERS), with = "Vec<serde_json::Map<String, Value>>")]
    pub filters: Vec<Value>,
    /// Deduplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub deduplicate: Option<Value>,
}
