//! What there is to do, and what was done.

/// What there is to do, and what was done. Rates are for whoever has a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests that run.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Tokens of those that wait: their prompts, and what those were given already that had to make room.
    pub waiting_tokens: usize,
    /// Tokens that the cache holds.
    pub cache_tokens: usize,
    /// Tokens of the blocks that requests hold. The others are free, though what they hold may be found again.
    pub cache_tokens_used: usize,
    /// Since the beginning: tokens of prompts that were looked for in the cache.
    pub queried_tokens: u64,
    /// Those of them that were found.
    pub found_tokens: u64,
    /// Since the beginning: tokens of prompts that were computed; those that were computed again count again.
    pub prompt_tokens: u64,
    /// Since the beginning: tokens that were drawn.
    pub generated_tokens: u64,
    /// Since the beginning: how often a request gave its blocks back to others.
    pub preemptions: u64,
}
