//! Why a request is not taken, or ends.

/// Why a request is not taken, or ends.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// There is nothing to go on from.
    #[error("the prompt is empty; give it one token at least")]
    EmptyPrompt,
    /// The prompt and what is asked for do not fit the context.
    #[error(
        "the prompt has {prompt} tokens and {new} are asked for, but the context has {context}; shorten the prompt or ask for fewer"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        new: usize,
        /// Tokens that one request may have.
        context: usize,
    },
    /// As many wait as may.
    #[error("{requests} requests with {tokens} tokens wait already; try again later")]
    Full {
        /// Requests that wait.
        requests: usize,
        /// The tokens of their prompts.
        tokens: usize,
    },
    /// A token of the prompt that the model does not know.
    #[error("the prompt holds token {token}, but the model's vocabulary has {vocabulary}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens that the model knows.
        vocabulary: usize,
    },
    /// No token is asked for.
    #[error("no token is asked for; ask for one at least")]
    NothingAskedFor,
    /// A setting is out of its bounds.
    #[error("{field} is {value}; it must be {bounds}")]
    Setting {
        /// Its name.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What it may be.
        bounds: &'static str,
    },
    /// A format is asked for, but nothing says what the tokens mean.
    #[error("{field} is given, but this engine knows no text of its tokens; ask for no format")]
    NoFormats {
        /// The field.
        field: &'static str,
    },
    /// As many different formats are followed as may.
    #[error("requests under way follow {most} different formats already; try again later")]
    ManyFormats {
        /// Formats that may be followed at once.
        most: usize,
    },
    /// A format is longer than may be.
    #[error("{field} has {bytes} bytes; give one of {most} at most")]
    FormatTooLarge {
        /// The field.
        field: &'static str,
        /// Its bytes.
        bytes: usize,
        /// Bytes that it may have.
        most: usize,
    },
    /// A format that no output can follow, or that is none.
    #[error("{field} can't be followed: {cause}; {remedy}")]
    Format {
        /// The field.
        field: &'static str,
        /// Why not.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A format that can't be followed any further.
    #[error("the format can't be followed any further: {cause}; give a simpler one")]
    FormatLost {
        /// Why not.
        cause: String,
    },
    /// A token that is to end texts, and is none of the vocabulary's.
    #[error("token {token} is to end texts, but the vocabulary has {vocabulary}")]
    UnknownEnd {
        /// The token.
        token: u32,
        /// Tokens of the vocabulary.
        vocabulary: usize,
    },
    /// The model has given what is no number.
    #[error("the model's logits are not numbers; its weights may be damaged")]
    NoNumbers,
}

/// Whether a request is taken.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The field of a request that is wrong, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::EmptyPrompt | Self::TooLong { .. } | Self::UnknownToken { .. } => Some("prompt"),
            Self::NothingAskedFor => Some("max_tokens"),
            Self::Setting { field, .. } => Some(field),
            Self::NoFormats { .. } | Self::FormatTooLarge { .. } | Self::Format { .. } | Self::FormatLost { .. } => {
                Some("format")
            }
            Self::Full { .. } | Self::ManyFormats { .. } | Self::UnknownEnd { .. } | Self::NoNumbers => None,
        }
    }
}
