//! A request as the scheduler knows it: tokens to go on from, and how many to give.

use std::cmp::Reverse;

/// Which request. The most urgent comes first, and of those the one that arrived first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub(crate) urgency: Reverse<i32>,
    pub(crate) arrival: u64,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The tokens to go on from; one at least.
    pub prompt: Vec<u32>,
    /// Tokens that it may be given at most.
    pub new_tokens: usize,
    /// The greater is the more urgent. Whoever waits is let in by urgency, and gives way by it: while requests of a higher priority fill
    /// the engine, those of a lower one wait, however long. Among equals the first to come is the first to run, and none waits for ever.
    pub priority: i32,
    /// Whether logits are wanted after each token of the prompt. All of them are computed then: what the cache holds gives none.
    pub prompt_logprobs: bool,
}
