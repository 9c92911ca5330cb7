//! A request under way: its tokens, and which of them have their keys and values in the cache.

use crate::blocks::{BlockId, Blocks};
use crate::limits::Limits;
use crate::scheduler::RequestId;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    /// The prompt and what came after it.
    pub(crate) tokens: Vec<u32>,
    /// How many it may have.
    most: usize,
    /// Of how many tokens keys and values are in the cache.
    pub(crate) computed: usize,
    /// Those blocks, in order. All that are full are known, where requests share blocks.
    pub(crate) blocks: Vec<BlockId>,
    /// What the step under way computes.
    pub(crate) planned: usize,
    /// Nobody waits for it any more; it goes when the step under way is over.
    pub(crate) is_cancelled: bool,
    /// How often another that came later went before it, because there was no room for this one.
    pub(crate) passed_over: u32,
    /// Whether it ran before it waited.
    pub(crate) has_run: bool,
}

impl Sequence {
    pub(crate) fn new(id: RequestId, prompt: Vec<u32>, new_tokens: usize) -> Self {
        Self {
            id,
            most: prompt.len() + new_tokens,
            tokens: prompt,
            computed: 0,
            blocks: Vec::new(),
            planned: 0,
            is_cancelled: false,
            passed_over: 0,
            has_run: false,
        }
    }

    /// Takes the next token; true where it is the last. One that may have none keeps what it had.
    pub(crate) fn push(&mut self, token: u32) -> bool {
        if self.tokens.len() < self.most {
            self.tokens.push(token);
        }
        self.tokens.len() == self.most
    }

    /// Tokens that are to be computed until the next can be told.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// The known blocks with which its tokens begin. The last token is always computed: the next one follows from it.
    pub(crate) fn known_beginning(&self, blocks: &Blocks, limits: &Limits) -> Vec<BlockId> {
        let mut found: Vec<BlockId> = Vec::new();
        if limits.reuses_prefixes {
            for tokens in self.tokens[..self.tokens.len() - 1].chunks_exact(limits.block_tokens) {
                let Some(id) = blocks.find(found.last().copied(), tokens) else { break };
                found.push(id);
            }
        }
        found
    }

    /// Begins with blocks that are known.
    pub(crate) fn begin_with(&mut self, known: Vec<BlockId>, blocks: &mut Blocks, limits: &Limits) {
        for id in &known {
            blocks.hold(*id);
        }
        self.computed = known.len() * limits.block_tokens;
        self.blocks = known;
    }

    /// Blocks that are missing for so many more tokens.
    pub(crate) fn missing(&self, tokens: usize, limits: &Limits) -> usize {
        limits.blocks_of(self.computed + tokens).saturating_sub(self.blocks.len())
    }

    /// Takes in that the planned tokens are computed.
    pub(crate) fn advance(&mut self, blocks: &mut Blocks, limits: &Limits) {
        let before = self.computed / limits.block_tokens;
        self.computed += std::mem::take(&mut self.planned);
        if !limits.reuses_prefixes {
            return;
        }
        for number in before..self.computed / limits.block_tokens {
            let tokens = &self.tokens[number * limits.block_tokens..][..limits.block_tokens];
            let previous = number.checked_sub(1).map(|previous| self.blocks[previous]);
            self.blocks[number] = blocks.publish(self.blocks[number], previous, tokens);
        }
    }

    /// Gives its blocks back. What they hold is computed again, or found again.
    pub(crate) fn leave(&mut self, blocks: &mut Blocks) {
        blocks.release_all(&mut self.blocks);
        self.computed = 0;
        self.planned = 0;
    }
}
