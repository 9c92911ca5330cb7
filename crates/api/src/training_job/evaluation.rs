//! What is measured, and when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{defaults, limits};

/// A measurement: exactly one of `bitsPerByte` and `suite`.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evaluation {
    /// Its name.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// Bits per byte of a dataset's held-out documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<BitsPerByte>,
    /// A few-shot suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<Suite>,
    /// At which moments.
    #[serde(default = "defaults::when")]
    #[schemars(length(max = limits::MOMENTS))]
    pub when: Vec<When>,
    /// And every so many steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_steps: Option<u64>,
}

/// Bits per byte of a dataset's held-out documents.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BitsPerByte {
    /// The dataset's name.
    #[schemars(length(max = limits::NAME))]
    pub dataset: String,
}

/// A few-shot suite.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suite {
    /// Which.
    #[schemars(length(max = limits::TEXT))]
    pub kind: String,
    /// Its folder.
    #[schemars(length(max = limits::URI))]
    pub uri: String,
    /// Demonstrations before each question.
    #[serde(default)]
    pub shots: u32,
}

/// A moment of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
pub enum When {
    /// Before the first step.
    JobStart,
    /// After each stage's last step.
    StageEnd,
    /// After the last step.
    JobEnd,
}
