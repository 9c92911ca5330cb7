//! What a step computes, and what comes of it.

use crate::blocks::BlockId;
use crate::request::RequestId;

/// What a step computes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work<'a> {
    /// The request.
    pub id: RequestId,
    /// The position of the first token.
    pub position: usize,
    /// The tokens. Each attends to all positions up to its own.
    pub tokens: &'a [u32],
    /// The blocks that hold the keys and values of positions from 0 to the last of these tokens.
    pub blocks: &'a [BlockId],
    /// After which of these tokens logits are wanted.
    pub wanted: Wanted,
    /// Whether the next token is to be drawn from the logits of the last.
    pub is_sampled: bool,
    /// Whether this is the first of the request. The tokens before its position were in the cache already.
    pub is_first: bool,
}

impl Work<'_> {
    /// Rows of logits that are wanted.
    pub fn rows(&self) -> usize {
        self.wanted.rows(self.tokens.len())
    }
}

/// After which tokens of a work logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: there is more of the prompt to come.
    None,
    /// The last.
    Last,
    /// Each, as for the log-probabilities of a prompt.
    All,
}

impl Wanted {
    /// Rows of logits of a work of so many tokens.
    pub(crate) fn rows(self, tokens: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Last => tokens.min(1),
            Self::All => tokens,
        }
    }
}

/// How a request goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// As it is: no token was drawn.
    More,
    /// With this token.
    Token(u32),
    /// It is over with the token that was drawn.
    LastToken,
    /// It is over, and no token was drawn.
    End,
}
