//! What a scheduler may use.

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
    /// a prompt whose log-probabilities are asked for. As many as may run, so that none of them waits for another's.
    pub step_rows: usize,
    /// Requests that run at once.
    pub running: usize,
    /// Requests that wait at most.
    pub waiting_requests: usize,
    /// Tokens of the prompts that wait at most.
    pub waiting_tokens: usize,
    /// Tokens that a request may have, its prompt and what it is given.
    pub context: usize,
    /// Whether requests that begin alike share blocks.
    pub reuses_prefixes: bool,
}

impl Limits {
    /// Tokens that one request can have: no more than the whole cache holds.
    pub(crate) fn longest(&self) -> usize {
        self.context.min(self.blocks * self.block_tokens)
    }

    /// Blocks that hold so many tokens.
    pub(crate) fn blocks_of(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens)
    }
}
