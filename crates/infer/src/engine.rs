//! Requests in, tokens out: a scheduler, a model and a sampler for each request.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::sampler::{Sampler, Sampling};
use crate::scheduler::{Figures, Next, Request, RequestId, Scheduler, Work};

/// What computes steps.
pub trait Model {
    /// Why a step came to nothing.
    type Error;

    /// Tokens that it knows: those below this.
    fn vocabulary(&self) -> usize;

    /// Computes a step. `logits` becomes those after the last token of each work that is sampled, in order, [rows * vocabulary].
    fn step(&mut self, step: &[Work], logits: &mut Vec<f32>) -> Result<(), Self::Error>;
}

/// What is asked for, and how it is drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// Which tokens to go on from, and how many to give.
    pub request: Request,
    /// How they are drawn.
    pub sampling: Sampling,
    /// Tokens that end it; the one that did is its last.
    pub ends: Vec<u32>,
}

/// Why there is no more of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// One of the tokens that end it came.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The next token, and whether it is the last.
    Token(u32, Option<Finish>),
    /// Nothing more, because of this. No other request is touched.
    Failed(Error),
}

/// Serves requests with a model.
#[derive(Debug)]
pub struct Engine<M> {
    model: M,
    scheduler: Scheduler,
    running: HashMap<RequestId, Running>,
    logits: Vec<f32>,
}

#[derive(Debug)]
struct Running {
    sampler: Sampler,
    ends: Vec<u32>,
    /// Tokens that it may still be given.
    left: usize,
}

impl<M: Model> Engine<M> {
    /// One without requests.
    pub fn new(model: M, limits: Limits) -> Self {
        Self { model, scheduler: Scheduler::new(limits), running: HashMap::new(), logits: Vec::new() }
    }

    /// Takes a request, or says why not.
    pub fn submit(&mut self, task: Task) -> Result<RequestId> {
        task.sampling.check()?;
        let vocabulary = self.model.vocabulary();
        if let Some(token) = task.request.prompt.iter().find(|token| **token as usize >= vocabulary) {
            return Err(Error::UnknownToken { token: *token, vocabulary });
        }
        if task.request.new_tokens == 0 {
            return Err(Error::NothingAskedFor);
        }
        let sampler = Sampler::new(task.sampling, &task.request.prompt);
        let left = task.request.new_tokens;
        let id = self.scheduler.submit(task.request)?;
        self.running.insert(id, Running { sampler, ends: task.ends, left });
        Ok(id)
    }

    /// Forgets a request; nothing more comes of it.
    pub fn cancel(&mut self, id: RequestId) {
        self.running.remove(&id);
        self.scheduler.cancel(id);
    }

    /// Computes the next step and tells what came of it; false where there is nothing to do. Where the model fails, no request can go on.
    pub fn step(&mut self, mut tell: impl FnMut(RequestId, Event)) -> Result<bool, M::Error> {
        let step = self.scheduler.plan();
        if step.is_empty() {
            return Ok(false);
        }
        self.model.step(&step, &mut self.logits)?;
        let rows = self.logits.chunks_exact(self.model.vocabulary());
        let sampled = step.iter().filter(|work| work.is_sampled).zip(rows);
        let mut next = HashMap::new();
        for (work, row) in sampled {
            let Some(request) = self.running.get_mut(&work.id) else { continue };
            let event = request.next(row);
            if let Event::Token(token, None) = &event {
                next.insert(work.id, Next::Token(*token));
            } else {
                self.running.remove(&work.id);
            }
            tell(work.id, event);
        }
        self.scheduler.complete(&step, |id| next.get(&id).copied().unwrap_or(Next::End));
        Ok(true)
    }

    /// What there is to do, and what was done.
    pub fn figures(&self) -> Figures {
        self.scheduler.figures()
    }
}

impl Running {
    fn next(&mut self, logits: &[f32]) -> Event {
        let token = match self.sampler.draw(logits) {
            Ok(token) => token,
            Err(error) => return Event::Failed(error),
        };
        self.left = self.left.saturating_sub(1);
        let finish = if self.ends.contains(&token) {
            Some(Finish::Stop)
        } else if self.left == 0 {
            Some(Finish::Length)
        } else {
            None
        };
        Event::Token(token, finish)
    }
}

#[cfg(test)]
mod tests;
