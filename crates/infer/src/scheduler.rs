//! Which tokens of which requests the next step computes.
//!
//! Each request that is past its prompt gets one token a step. What is left of a step's tokens is dealt evenly to those whose prompts are not
//! computed yet, so that a long one delays nobody by more than its share. Room in the cache is taken as it is needed: where there is none,
//! the least urgent request gives its blocks back and waits to be computed again.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::blocks::{BlockId, Blocks};
use crate::error::{Error, Result};
use crate::figures::Figures;
use crate::limits::Limits;
use crate::request::{Request, RequestId};
use crate::sequence::Sequence;
use crate::work::{Next, Work};

/// How often a request may be passed over by others for which there is room, before they wait for it.
const PASSED_OVER: u32 = 64;

/// How many requests behind one for which there is no room are looked at.
const LOOK_AHEAD: usize = 32;

/// A request waits for another to compute what both begin with where that is this part of its own tokens, or more: to compute it twice
/// would delay everybody.
const WORTHWHILE: usize = 4;

/// Decides which tokens of which requests each step computes.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    blocks: Blocks,
    waiting: BTreeMap<RequestId, Sequence>,
    running: BTreeMap<RequestId, Sequence>,
    /// Those of which the step under way computes some, in the order of its works.
    planned: Vec<RequestId>,
    arrived: u64,
    figures: Figures,
}

/// What is left of a step.
#[derive(Clone, Copy, Debug)]
struct Room {
    tokens: usize,
    rows: usize,
}

impl Scheduler {
    /// One without requests, and with a cache of which nothing is known.
    pub fn new(limits: Limits) -> Self {
        Self {
            blocks: Blocks::new(limits.blocks),
            limits,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            planned: Vec::new(),
            arrived: 0,
            figures: Figures::default(),
        }
    }

    /// Says why a request would not be taken.
    pub fn check(&self, request: &Request) -> Result<()> {
        self.limits.check(request)?;
        let (requests, tokens) = (self.waiting.len(), self.waiting_tokens());
        // A prompt that is longer than all that may wait would never be taken: it may wait alone.
        let has_room = requests == 0 || tokens + request.prompt.len() <= self.limits.waiting_tokens;
        if requests >= self.limits.waiting_requests || !has_room {
            return Err(Error::Full { requests, tokens });
        }
        Ok(())
    }

    /// Takes a request, or says why not.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        self.check(&request)?;
        self.arrived += 1;
        let id = RequestId { urgency: Reverse(request.priority), arrival: self.arrived };
        self.waiting.insert(id, Sequence::new(id, request));
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
    pub fn plan(&mut self) -> Vec<Work<'_>> {
        let mut room = Room { tokens: self.limits.step_tokens, rows: self.limits.step_rows };
        self.plan_decoding(&mut room);
        self.admit(room.tokens);
        self.plan_prompts(room);
        self.planned.clear();
        let mut works = Vec::with_capacity(self.running.len());
        for (id, sequence) in &self.running {
            if sequence.planned == 0 {
                continue;
            }
            if let Some((queried, found)) = sequence.looked_for(&self.limits) {
                self.figures.queried_tokens += queried as u64;
                self.figures.found_tokens += found as u64;
            }
            self.figures.prompt_tokens += sequence.planned_of_prompt() as u64;
            self.planned.push(*id);
            works.push(sequence.work(&self.limits));
        }
        works
    }

    /// Takes in that a step is over, and how the request of each of its works goes on. One that has as many tokens as it may have is over by
    /// itself.
    pub fn complete(&mut self, next: &[Next]) {
        let mut planned = std::mem::take(&mut self.planned);
        for (id, next) in planned.drain(..).zip(next) {
            let Some(sequence) = self.running.get_mut(&id) else { continue };
            if sequence.is_cancelled {
                self.remove(id);
                continue;
            }
            sequence.advance(&mut self.blocks, &self.limits);
            if let Next::Token(token) = next {
                sequence.push(*token);
            }
            self.figures.generated_tokens += u64::from(matches!(next, Next::Token(_) | Next::LastToken));
            if sequence.is_over() || matches!(next, Next::LastToken | Next::End) {
                self.remove(id);
            }
        }
        self.planned = planned;
    }

    /// What there is to do, and what was done.
    pub fn figures(&self) -> Figures {
        Figures {
            running: self.running.len(),
            waiting: self.waiting.len(),
            waiting_tokens: self.waiting_tokens(),
            cache_tokens: self.limits.blocks * self.limits.block_tokens,
            cache_tokens_used: self.blocks.held() * self.limits.block_tokens,
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
    fn plan_decoding(&mut self, room: &mut Room) {
        let kept = self.kept_rows();
        let decoding = self.running.iter().filter(|(_, sequence)| sequence.pending() == 1);
        for id in decoding.map(|(id, _)| *id).collect::<Vec<_>>() {
            let rows = room.rows.saturating_sub(kept);
            self.plan_some(id, 1, rows, room);
        }
    }

    /// Rows that are kept for prompts whose log-probabilities are asked for: however many draw a token, these go on.
    fn kept_rows(&self) -> usize {
        usize::from(self.limits.step_rows > 1 && self.running.values().any(Sequence::owes_rows))
    }

    /// Shares of a step for those whose tokens are not computed yet.
    fn plan_prompts(&mut self, mut room: Room) {
        let waits = self.running.iter().filter(|(_, sequence)| sequence.planned == 0);
        // Of the rows, first one for each that draws a token. What is left goes to the prompts that owe rows: no long one takes it all.
        let drawing = waits.clone().filter(|(_, sequence)| !sequence.owes_rows()).count();
        let mut rows: Vec<(RequestId, usize)> =
            waits.clone().map(|(id, sequence)| (*id, sequence.rows_due())).collect();
        deal(&mut rows, room.rows.saturating_sub(drawing).max(1));
        for ((_, sequence), (_, rows)) in waits.clone().zip(&mut rows) {
            *rows = if sequence.owes_rows() { *rows } else { 1 };
        }
        let mut shares: Vec<(RequestId, usize)> =
            waits.zip(&rows).map(|((id, sequence), (_, rows))| (*id, sequence.pending_within(*rows))).collect();
        deal(&mut shares, room.tokens);
        let mut kept = self.kept_rows();
        // The most urgent first: those behind it make room.
        for ((id, share), (_, rows)) in shares.into_iter().zip(rows) {
            let Some(sequence) = self.running.get(&id) else { continue };
            if sequence.owes_rows() {
                self.plan_some(id, share, rows, &mut room);
                kept = 0;
            } else {
                self.plan_some(id, share, rows.min(room.rows.saturating_sub(kept)), &mut room);
            }
        }
    }

    /// Plans so many tokens of a request, or as many as there is room for, with so many rows of logits at most.
    fn plan_some(&mut self, id: RequestId, tokens: usize, rows: usize, room: &mut Room) {
        let Some(sequence) = self.running.get(&id) else { return };
        let tokens = tokens.min(room.tokens).min(sequence.pending_within(rows.min(room.rows)));
        if tokens == 0 || !self.make_room(id, tokens) {
            return;
        }
        room.tokens -= tokens;
        room.rows -= self.running.get(&id).map_or(0, |sequence| sequence.wanted().rows(tokens));
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
        let mut passed_over: Vec<RequestId> = Vec::new();
        let mut looked_at = 0;
        let mut place = Bound::Unbounded;
        // Its last token, at least, needs a block of its own.
        while looked_at < LOOK_AHEAD
            && self.running.len() < self.limits.running
            && budget > 0
            && self.blocks.available() > 0
        {
            let Some((id, sequence)) = self.waiting.range((place, Bound::Unbounded)).next() else { break };
            let id = *id;
            place = Bound::Excluded(id);
            // Those who wait for what another computes keep back nobody, however many they are.
            if self.still_awaits(sequence) {
                continue;
            }
            let known = sequence.known_beginning(&self.blocks, &self.limits);
            if let Some(awaited) = self.coming(sequence, known.len()) {
                if let Some(sequence) = self.waiting.get_mut(&id) {
                    sequence.awaits = Some(awaited);
                }
                continue;
            }
            looked_at += 1;
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
            sequence.begin_with(known, &mut self.blocks, &self.limits);
            budget -= 1;
            self.running.insert(id, sequence);
        }
    }

    /// The request that runs and is about to compute a good part of what this one would, beyond its `known` blocks, and how many of its
    /// tokens that is. It is waited for no longer than it runs.
    fn coming(&self, sequence: &Sequence, known: usize) -> Option<(RequestId, usize)> {
        if !self.limits.reuses_prefixes || sequence.owes_rows() {
            return None;
        }
        let known = known * self.limits.block_tokens;
        let worthwhile = known + (sequence.tokens.len() - known).div_ceil(WORTHWHILE);
        // One that owes logits of its prompt is slow: a step gives few rows.
        self.running.iter().filter(|(_, running)| !running.owes_rows()).find_map(|(id, running)| {
            // The least that both have to begin with for it to be worth waiting.
            let shared = worthwhile.max(running.computed + 1).next_multiple_of(self.limits.block_tokens);
            let begins_alike =
                shared < sequence.tokens.len() && running.tokens.get(..shared) == Some(&sequence.tokens[..shared]);
            begins_alike.then_some((*id, shared))
        })
    }

    /// Whether what a request was found to wait for is still to come; whatever else there may be is not looked for until then.
    fn still_awaits(&self, sequence: &Sequence) -> bool {
        sequence.awaits.is_some_and(|(id, tokens)| self.running.get(&id).is_some_and(|other| other.computed < tokens))
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

/// Makes what each wants its share of what there is, in the order of requests. What the short ones leave of their even share is the long ones'.
fn deal(wanted: &mut [(RequestId, usize)], mut left: usize) {
    wanted.sort_by_key(|(_, wanted)| *wanted);
    let count = wanted.len();
    for (number, (_, share)) in wanted.iter_mut().enumerate() {
        *share = (*share).min((left / (count - number)).max(1)).min(left);
        left -= *share;
    }
    wanted.sort_by_key(|(id, _)| *id);
}

#[cfg(test)]
mod tests;
