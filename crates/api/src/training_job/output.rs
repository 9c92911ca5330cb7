//! Where the trained model goes, and the credentials of object stores.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits;

/// Where the trained model goes.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// The folder.
    #[schemars(length(max = limits::URI))]
    pub uri: String,
    /// The type of the weights written; absent: Float32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<OutputDtype>,
    /// What happens when the folder holds a model already.
    #[serde(default)]
    pub on_existing: OnExisting,
}

/// The type of weights written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum OutputDtype {
    /// bfloat16.
    BFloat16,
    /// IEEE half.
    Float16,
    /// IEEE single.
    Float32,
}

/// What happens when the output holds a model already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum OnExisting {
    /// An error before the first step.
    #[default]
    Fail,
    /// It is replaced at the end.
    Replace,
}

/// Credentials of the URIs under a prefix.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreSpec {
    /// The prefix.
    #[schemars(length(max = limits::URI))]
    pub uri_prefix: String,
    /// A Secret that the pods read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// The address of an S3-compatible service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::URI))]
    pub endpoint: Option<String>,
}

/// A Secret of the job's namespace.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// Its name.
    #[schemars(length(max = limits::TEXT))]
    pub name: String,
}
