//! What an output must look like.

/// What an output must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON that follows this schema, which is JSON, too.
    JsonSchema(String),
    /// What this regular expression matches, as a whole.
    Regex(String),
    /// A grammar in llguidance's dialect of Lark
    /// (<https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>).
    Lark(String),
}

impl Format {
    /// Its field in a request.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "json_schema",
            Self::Regex(_) => "regex",
            Self::Lark(_) => "lark",
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::JsonSchema(text) | Self::Regex(text) | Self::Lark(text) => text,
        }
    }

    /// What to do where it can't be followed.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "give a JSON schema of keywords that llguidance follows",
            Self::Regex(_) => "give one in the syntax of Rust's regex crate",
            Self::Lark(_) => "give one in llguidance's dialect of Lark",
        }
    }
}
