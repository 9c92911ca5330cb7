//! A request under way: its tokens, and which of them have their keys and values in the cache.

use std::ops::Range;

use crate::blocks::{BlockId, Blocks};
use crate::limits::Limits;
use crate::request::{Request, RequestId};
use crate::work::{Wanted, Work};

/// A request under way.
#[derive(Debug)]
pub(crate) struct Sequence {
    id: RequestId,
    /// The prompt and what came after it.
    pub(crate) tokens: Vec<u32>,
    prompt: usize,
    /// How many tokens it may have.
    most: usize,
    /// Positions of the prompt after which logits are wanted and were not given yet. They are given in order.
    due: Range<usize>,
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
    /// The request that computes what this one begins with, and how many tokens of it are waited for.
    pub(crate) awaits: Option<(RequestId, usize)>,
    /// Whether a step has computed some of it.
    has_begun: bool,
}

impl Sequence {
    pub(crate) fn new(id: RequestId, request: Request) -> Self {
        let prompt = request.prompt.len();
        Self {
            id,
            most: prompt + request.new_tokens,
            tokens: request.prompt,
            prompt,
            due: if request.prompt_logprobs { 0..prompt } else { prompt..prompt },
            computed: 0,
            blocks: Vec::new(),
            planned: 0,
            is_cancelled: false,
            passed_over: 0,
            awaits: None,
            has_begun: false,
        }
    }

    /// Takes the next token. One that may have none keeps what it had.
    pub(crate) fn push(&mut self, token: u32) {
        if self.tokens.len() < self.most {
            self.tokens.push(token);
        }
    }

    /// Whether it has as many tokens as it may. One that may have none beside its prompt is over when that is computed.
    pub(crate) fn is_over(&self) -> bool {
        self.tokens.len() == self.most && (self.most > self.prompt || self.pending() == 0)
    }

    /// Tokens that are to be computed until the next can be told.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Those of them that a step can compute that has so many rows of logits to give.
    pub(crate) fn pending_within(&self, rows: usize) -> usize {
        if self.due.contains(&self.computed) {
            return rows.min(self.due.end - self.computed);
        }
        if !self.due.is_empty() {
            // It was computed before and had to make room: what comes before the rows that are due goes by itself.
            return self.due.start - self.computed;
        }
        let needs_row = rows == 0 && self.tokens.len() < self.most;
        self.pending() - usize::from(needs_row)
    }

    /// Whether logits of its prompt are still to be given.
    pub(crate) fn owes_rows(&self) -> bool {
        !self.due.is_empty()
    }

    /// Rows of its prompt that could be given now.
    pub(crate) fn rows_due(&self) -> usize {
        if self.due.contains(&self.computed) { self.due.end - self.computed } else { 0 }
    }

    /// Tokens of the prompt that the step under way computes.
    pub(crate) fn planned_of_prompt(&self) -> usize {
        self.planned.min(self.prompt.saturating_sub(self.computed))
    }

    /// Where the step under way is its first: tokens of the prompt that were looked for in the cache, and those that were found.
    pub(crate) fn looked_for(&self, limits: &Limits) -> Option<(usize, usize)> {
        let is_asked = !self.has_begun && limits.reuses_prefixes && !self.owes_rows();
        is_asked.then_some((self.prompt, self.computed))
    }

    /// What the step under way computes.
    pub(crate) fn work(&self, limits: &Limits) -> Work<'_> {
        let end = self.computed + self.planned;
        Work {
            id: self.id,
            position: self.computed,
            tokens: &self.tokens[self.computed..end],
            blocks: &self.blocks[..limits.blocks_of(end)],
            wanted: self.wanted(),
            is_sampled: self.is_sampled(),
            is_first: !self.has_begun,
        }
    }

    fn is_sampled(&self) -> bool {
        self.planned == self.pending() && self.tokens.len() < self.most
    }

    pub(crate) fn wanted(&self) -> Wanted {
        if self.due.contains(&self.computed) {
            Wanted::All
        } else if self.is_sampled() {
            Wanted::Last
        } else {
            Wanted::None
        }
    }

    /// The known blocks with which its tokens begin. The last token is always computed: the next one follows from it.
    pub(crate) fn known_beginning(&self, blocks: &Blocks, limits: &Limits) -> Vec<BlockId> {
        let mut found: Vec<BlockId> = Vec::new();
        if limits.reuses_prefixes {
            let mut reusable = self.tokens.len() - 1;
            if self.owes_rows() {
                reusable = reusable.min(self.due.start);
            }
            for tokens in self.tokens[..reusable].chunks_exact(limits.block_tokens) {
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
        let is_due = self.due.contains(&self.computed);
        self.computed += std::mem::take(&mut self.planned);
        self.has_begun = true;
        if is_due {
            self.due.start = self.computed;
        }
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
