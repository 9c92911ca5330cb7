//! What a scheduler may use.

use crate::error::{Error, Result};
use crate::request::Request;

/// What a scheduler may use. Each is one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blocks of the cache.
    pub blocks: usize,
    /// Tokens of a block.
    pub block_tokens: usize,
    /// Tokens that a step computes at most.
    pub step_tokens: usize,
    /// Rows of logits that a step gives at most, each of the whole vocabulary: one for each token that is drawn, and one for each token of
    /// a prompt whose log-probabilities are asked for. More than may run: each that draws a token takes one, and prompts share what is left.
    pub step_rows: usize,
    /// Requests that run at once.
    pub running: usize,
    /// Requests that wait at most.
    pub waiting_requests: usize,
    /// Tokens of the prompts that wait at most. A longer one is taken where no other waits.
    pub waiting_tokens: usize,
    /// Tokens that a request may have, its prompt and what it is given.
    pub context: usize,
    /// Whether requests that begin alike share blocks.
    pub reuses_prefixes: bool,
}

impl Limits {
    /// Says which request can never be taken, however little there is to do.
    pub fn check(&self, request: &Request) -> Result<()> {
        let (prompt, new, context) = (request.prompt.len(), request.new_tokens, self.longest());
        if prompt == 0 {
            return Err(Error::EmptyPrompt);
        }
        if prompt.saturating_add(new) > context {
            return Err(Error::TooLong { prompt, new, context });
        }
        Ok(())
    }

    /// Tokens that one request can have: no more than the whole cache holds.
    pub(crate) fn longest(&self) -> usize {
        self.context.min(self.blocks * self.block_tokens)
    }

    /// Blocks that hold so many tokens.
    pub(crate) fn blocks_of(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens)
    }
}
