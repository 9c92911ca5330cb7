//! Which tokens of which requests the next step computes.
//!
//! Each request that is past its prompt gets one token a step. What is left of a step's tokens is dealt evenly to those whose prompts are not
//! computed yet, so that a long one delays nobody by more than its share. Room in the cache is taken as it is needed: where there is none,
//! the least urgent request gives its blocks back and waits to be computed again.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::blocks::{BlockId, Blocks};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::sequence::Sequence;

/// How often a request may be passed over by others for which there is room, before they wait for it.
const PASSED_OVER: u32 = 64;

/// How many requests behind one for which there is no room are looked at.
const LOOK_AHEAD: usize = 32;

/// Which request. The most urgent comes first, and of those the one that arrived first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    urgency: Reverse<i32>,
    arrival: u64,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The tokens to go on from; one at least.
    pub prompt: Vec<u32>,
    /// Tokens that it may be given at most.
    pub new_tokens: usize,
    /// The greater is the more urgent.
    pub priority: i32,
}

/// What a step computes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The request.
    pub id: RequestId,
    /// The position of the first token.
    pub position: usize,
    /// The tokens. Each attends to all positions up to its own.
    pub tokens: Vec<u32>,
    /// The blocks that hold the keys and values of positions from 0 to the last of these tokens.
    pub blocks: Vec<BlockId>,
    /// Whether the next token is to be drawn from the logits of the last.
    pub is_sampled: bool,
}

/// How a request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With this token.
    Token(u32),
    /// It is over.
    End,
}

/// What a scheduler has to do, and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests that run.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Blocks that are held.
    pub blocks_held: usize,
    /// Tokens that requests began with, since the beginning.
    pub queried_tokens: u64,
    /// Those of them that were in the cache.
    pub found_tokens: u64,
    /// How often a request gave its blocks back to others.
    pub preemptions: u64,
}

/// Decides which tokens of which requests each step computes.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    blocks: Blocks,
    waiting: BTreeMap<RequestId, Sequence>,
    running: BTreeMap<RequestId, Sequence>,
    arrived: u64,
    figures: Figures,
}

impl Scheduler {
    /// One without requests, and with a cache of which nothing is known.
    pub fn new(limits: Limits) -> Self {
        Self {
            blocks: Blocks::new(limits.blocks),
            limits,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            arrived: 0,
            figures: Figures::default(),
        }
    }

    /// Takes a request, or says why not.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        let (prompt, new) = (request.prompt.len(), request.new_tokens);
        if prompt == 0 {
            return Err(Error::EmptyPrompt);
        }
        let context = self.limits.longest();
        if prompt.saturating_add(new) > context {
            return Err(Error::TooLong { prompt, new, context });
        }
        let (requests, tokens) = (self.waiting.len(), self.waiting_tokens());
        if requests >= self.limits.waiting_requests || tokens + prompt > self.limits.waiting_tokens {
            return Err(Error::Full { requests, tokens });
        }
        self.arrived += 1;
        let id = RequestId { urgency: Reverse(request.priority), arrival: self.arrived };
        self.waiting.insert(id, Sequence::new(id, request.prompt, new));
        Ok(id)
    }

    /// Forgets a request. Where a step is under way that computes some of it, its blocks are free after that.
    pub fn cancel(&mut self, id: RequestId) {
        match self.running.get_mut(&id) {
            Some(sequence) if sequence.planned > 0 => sequence.is_cancelled = true,
            _ => self.remove(id),
        }
    }

    /// What the next step computes; nothing where nothing is to be done. The step before must be complete.
    pub fn plan(&mut self) -> Vec<Work> {
        let mut budget = self.limits.step_tokens;
        self.plan_decoding(&mut budget);
        self.admit(budget);
        self.plan_prompts(budget);
        let limits = &self.limits;
        let planned = self.running.values().filter(|sequence| sequence.planned > 0);
        planned
            .map(|sequence| {
                let end = sequence.computed + sequence.planned;
                Work {
                    id: sequence.id,
                    position: sequence.computed,
                    tokens: sequence.tokens[sequence.computed..end].to_vec(),
                    blocks: sequence.blocks[..limits.blocks_of(end)].to_vec(),
                    is_sampled: end == sequence.tokens.len(),
                }
            })
            .collect()
    }

    /// Takes in that a step is over, and how those of its requests go on from which a token was drawn. A request that has as many tokens as
    /// it may have is over by itself.
    pub fn complete(&mut self, step: &[Work], mut next: impl FnMut(RequestId) -> Next) {
        for work in step {
            let Some(sequence) = self.running.get_mut(&work.id) else { continue };
            if sequence.is_cancelled {
                self.remove(work.id);
                continue;
            }
            sequence.advance(&mut self.blocks, &self.limits);
            if work.is_sampled {
                let is_over = match next(work.id) {
                    Next::Token(token) => sequence.push(token),
                    Next::End => true,
                };
                if is_over {
                    self.remove(work.id);
                }
            }
        }
    }

    /// What there is to do, and what was done.
    pub fn figures(&self) -> Figures {
        Figures {
            running: self.running.len(),
            waiting: self.waiting.len(),
            blocks_held: self.blocks.held(),
            ..self.figures
        }
    }

    fn waiting_tokens(&self) -> usize {
        self.waiting.values().map(|sequence| sequence.tokens.len()).sum()
    }

    fn remove(&mut self, id: RequestId) {
        self.waiting.remove(&id);
        if let Some(mut sequence) = self.running.remove(&id) {
            sequence.leave(&mut self.blocks);
        }
    }

    /// One token for each request that is past its prompt.
    fn plan_decoding(&mut self, budget: &mut usize) {
        let decoding = self.running.iter().filter(|(_, sequence)| sequence.pending() == 1);
        for id in decoding.map(|(id, _)| *id).collect::<Vec<_>>() {
            if *budget > 0 && self.make_room(id, 1) {
                *budget -= 1;
            }
        }
    }

    /// Shares of a step for those whose tokens are not computed yet.
    fn plan_prompts(&mut self, mut budget: usize) {
        let waits = self.running.iter().filter(|(_, sequence)| sequence.planned == 0);
        let mut shares: Vec<(RequestId, usize)> = waits.map(|(id, sequence)| (*id, sequence.pending())).collect();
        // What the short ones leave of their even share is the long ones'.
        shares.sort_by_key(|(_, pending)| *pending);
        let count = shares.len();
        for (number, (_, share)) in shares.iter_mut().enumerate() {
            *share = (*share).min((budget / (count - number)).max(1)).min(budget);
            budget -= *share;
        }
        // The most urgent first: those behind it make room.
        shares.sort_by_key(|(id, _)| *id);
        for (id, share) in shares {
            if share > 0 {
                self.make_room(id, share);
            }
        }
    }

    /// Plans so many tokens of a request, for which the least urgent give their blocks back if need be; false where it gave back its own.
    fn make_room(&mut self, id: RequestId, tokens: usize) -> bool {
        loop {
            let Some(sequence) = self.running.get_mut(&id) else { return false };
            let missing = sequence.missing(tokens, &self.limits);
            if missing <= self.blocks.available() {
                sequence.blocks.extend((0..missing).filter_map(|_| self.blocks.take()));
                sequence.planned = tokens;
                return true;
            }
            let Some((least, _)) = self.running.last_key_value() else { return false };
            let least = *least;
            self.preempt(least);
        }
    }

    fn preempt(&mut self, id: RequestId) {
        let Some(mut sequence) = self.running.remove(&id) else { return };
        sequence.leave(&mut self.blocks);
        self.figures.preemptions += 1;
        self.waiting.insert(id, sequence);
    }

    /// Lets requests run for which there is room, in order. One for which there is none does not keep back those behind it, but for so long.
    fn admit(&mut self, mut budget: usize) {
        let ids: Vec<RequestId> = self.waiting.keys().take(LOOK_AHEAD).copied().collect();
        let mut passed_over: Vec<RequestId> = Vec::new();
        for id in ids {
            if self.running.len() >= self.limits.running || budget == 0 {
                break;
            }
            let Some(sequence) = self.waiting.get(&id) else { continue };
            let known = sequence.known_beginning(&self.blocks, &self.limits);
            if self.is_coming(sequence, known.len()) {
                continue;
            }
            if !self.has_room(sequence, &known) {
                if sequence.passed_over >= PASSED_OVER {
                    break;
                }
                passed_over.push(id);
                continue;
            }
            let Some(mut sequence) = self.waiting.remove(&id) else { continue };
            for id in passed_over.drain(..) {
                if let Some(sequence) = self.waiting.get_mut(&id) {
                    sequence.passed_over += 1;
                }
            }
            let is_first_time = !std::mem::replace(&mut sequence.has_run, true);
            sequence.begin_with(known, &mut self.blocks, &self.limits);
            if is_first_time {
                self.figures.queried_tokens += sequence.tokens.len() as u64;
                self.figures.found_tokens += sequence.computed as u64;
            }
            budget -= 1;
            self.running.insert(id, sequence);
        }
    }

    /// Whether a request that runs is about to compute most of what this one would, beyond its `known` blocks.
    fn is_coming(&self, sequence: &Sequence, known: usize) -> bool {
        if !self.limits.reuses_prefixes {
            return false;
        }
        let known = known * self.limits.block_tokens;
        self.running.values().any(|running| {
            let alike = sequence.tokens.iter().zip(&running.tokens).take_while(|(one, other)| one == other).count();
            let shared = alike.min(sequence.tokens.len() - 1) / self.limits.block_tokens * self.limits.block_tokens;
            running.computed < shared && 2 * shared.saturating_sub(known) >= sequence.tokens.len() - known
        })
    }

    /// Whether all that a request needs until its next token is free, beside what those that run need soon.
    fn has_room(&self, sequence: &Sequence, known: &[BlockId]) -> bool {
        let idle = known.iter().filter(|id| self.blocks.is_idle(**id)).count();
        let new = self.limits.blocks_of(sequence.tokens.len()) - known.len();
        let promised: usize =
            self.running.values().map(|running| running.missing(running.pending(), &self.limits)).sum();
        // A block more for each, so that none has to give way at once.
        let reserve = if self.running.is_empty() { 0 } else { self.running.len() + 1 };
        idle + new + promised + reserve <= self.blocks.available()
    }
}

#[cfg(test)]
mod tests;
