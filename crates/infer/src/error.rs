//! Why a request is not taken.

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
}

/// Whether a request is taken.
pub type Result<T, E = Error> = std::result::Result<T, E>;
