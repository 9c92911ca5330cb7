//! A request as an engine serves it: what is told of it after each step.

use crate::constraint::Constraint;
use crate::error::{Error, Result};
use crate::logprobs::Logprobs;
use crate::request::Request;
use crate::sampler::{Sampler, Scratch};
use crate::task::{Event, Finish, Task};
use crate::work::{Next, Wanted, Work};

/// A request as an engine serves it.
#[derive(Debug)]
pub(super) struct Served {
    sampler: Sampler,
    ends: Vec<u32>,
    logprobs: Option<usize>,
    constraint: Option<Constraint>,
    /// Its prompt, where the log-probabilities of that are asked for.
    scored: Vec<u32>,
    cached_tokens: usize,
    /// Tokens that it was given, and may be given at most.
    given: usize,
    most: usize,
}

impl Served {
    /// What the scheduler is to know of a task, and the rest. `constraint` follows its format.
    pub(super) fn new(task: Task, constraint: Option<Constraint>) -> (Request, Self) {
        let request = task.request;
        let served = Self {
            sampler: Sampler::new(task.sampling, &request.prompt),
            ends: task.ends,
            logprobs: task.logprobs,
            constraint,
            scored: if request.prompt_logprobs { request.prompt.clone() } else { Vec::new() },
            cached_tokens: 0,
            given: 0,
            most: request.new_tokens,
        };
        (request, served)
    }

    /// Takes in what a step gave, [rows, vocabulary], and tells what came of it.
    pub(super) fn go_on(
        &mut self,
        work: &Work<'_>,
        logits: &[f32],
        vocabulary: usize,
        scratch: &mut Scratch,
        mut tell: impl FnMut(Event),
    ) -> Next {
        if work.is_first {
            self.cached_tokens = work.position;
        }
        self.read(work, logits, vocabulary, scratch, &mut tell).unwrap_or_else(|error| {
            tell(Event::Failed(error));
            Next::End
        })
    }

    fn read(
        &mut self,
        work: &Work<'_>,
        logits: &[f32],
        vocabulary: usize,
        scratch: &mut Scratch,
        tell: &mut impl FnMut(Event),
    ) -> Result<Next> {
        if logits.len() != work.rows() * vocabulary {
            return Err(Error::NoNumbers);
        }
        if work.wanted == Wanted::All {
            let mut scores = Vec::with_capacity(work.tokens.len());
            let outcome = self.score(work, logits.chunks_exact(vocabulary), &mut scores);
            // What comes before a failure is told, so that how the prompt was cut into pieces changes nothing.
            if !scores.is_empty() {
                tell(Event::Prompt(scores));
            }
            outcome?;
        }
        let end = work.position + work.tokens.len();
        if self.most == 0 && end == self.scored.len() {
            tell(self.finished(Finish::Length));
            return Ok(Next::End);
        }
        if !work.is_sampled {
            return Ok(Next::More);
        }
        let row = &logits[logits.len() - vocabulary..];
        let Some(token) = self.draw(row, scratch)? else {
            tell(self.finished(Finish::Stop));
            return Ok(Next::End);
        };
        let logprobs = self.logprobs.map(|count| Logprobs::of(row, token, count)).transpose()?;
        self.given += 1;
        tell(Event::Token { token, logprobs });
        let reason = if self.ends.contains(&token) || self.is_complete() {
            Finish::Stop
        } else if self.given == self.most {
            Finish::Length
        } else {
            return Ok(Next::Token(token));
        };
        tell(self.finished(reason));
        Ok(Next::LastToken)
    }

    /// Draws a token that its format allows; none where none may come any more.
    fn draw(&mut self, row: &[f32], scratch: &mut Scratch) -> Result<Option<u32>> {
        let Some(constraint) = &mut self.constraint else { return self.sampler.draw(row, scratch).map(Some) };
        let Some(allowed) = constraint.allowed()? else { return Ok(None) };
        let token = self.sampler.draw_among(row, Some(&allowed), scratch)?;
        constraint.push(token)?;
        Ok(Some(token))
    }

    /// Whether its format is complete.
    fn is_complete(&self) -> bool {
        self.constraint.as_ref().is_some_and(Constraint::is_complete)
    }

    /// The log-probabilities of the prompt's tokens that follow those of a work, by the rows after these.
    fn score<'a>(
        &self,
        work: &Work<'_>,
        rows: impl Iterator<Item = &'a [f32]>,
        scores: &mut Vec<Logprobs>,
    ) -> Result<()> {
        for (token, row) in self.scored[work.position + 1..].iter().zip(rows) {
            scores.push(Logprobs::of(row, *token, self.logprobs.unwrap_or(0))?);
        }
        Ok(())
    }

    fn finished(&self, reason: Finish) -> Event {
        Event::Finished { reason, tokens: self.given, cached_tokens: self.cached_tokens }
    }
}
