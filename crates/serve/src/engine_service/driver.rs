//! The engine's thread: takes submissions, computes steps, and hands out what comes of them.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use palimpsest_infer::{Constraint, Engine, Event, Model, RequestId, Task};
use palimpsest_proto::inference::generate_reply::Event as Given;
use palimpsest_proto::inference::{Accepted, Finished, PromptTokens, Started, Token};
use tokio::sync::mpsc;
use tonic::Status;

use super::outlet::Outlet;
use super::snapshot::Snapshot;
use super::translate::{reason_of, status_of, token_of};
use crate::error::{Error, Result};

/// A request, and where to answer it.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) task: Task,
    /// What the task's format says, where it has one and the engine knows its tokens' text.
    pub(super) constraint: Option<Constraint>,
    pub(super) outlet: Outlet,
}

/// The engine, and those who wait for it.
pub(super) struct Driver<M> {
    engine: Engine<M>,
    submissions: mpsc::Receiver<Submission>,
    readers: HashMap<RequestId, Reader>,
    snapshot: Arc<Snapshot>,
}

/// Who waits for a request.
struct Reader {
    outlet: Outlet,
    /// The first token of the prompt, where those of the prompt are told.
    first_token: Option<u32>,
}

impl<M> Driver<M>
where
    M: Model,
    M::Error: Display,
{
    pub(super) fn new(engine: Engine<M>, submissions: mpsc::Receiver<Submission>, snapshot: Arc<Snapshot>) -> Self {
        Self { engine, submissions, readers: HashMap::new(), snapshot }
    }

    /// Computes until nobody can submit any more, or the model fails.
    pub(super) fn run(mut self) -> Result<()> {
        loop {
            if self.readers.is_empty() {
                // Sleeps until there is something to do.
                let Some(submission) = self.submissions.blocking_recv() else { return Ok(()) };
                self.submit(submission);
            }
            while let Ok(submission) = self.submissions.try_recv() {
                self.submit(submission);
            }
            self.cancel_abandoned();
            self.step()?;
        }
    }

    fn submit(&mut self, Submission { task, constraint, outlet }: Submission) {
        if outlet.is_abandoned() {
            return;
        }
        let prompt = &task.request.prompt;
        let prompt_tokens = prompt.len();
        let first_token = prompt.first().copied().filter(|_| task.request.prompt_logprobs);
        let submitted = match constraint {
            Some(constraint) => self.engine.submit_following(task, constraint),
            None => self.engine.submit(task),
        };
        match submitted {
            Ok(id) => {
                outlet.give(Given::Accepted(Accepted { prompt_tokens: prompt_tokens as u32 }));
                self.readers.insert(id, Reader { outlet, first_token });
            }
            Err(error) => outlet.fail(status_of(&error)),
        }
    }

    /// Forgets the requests whose readers have gone, whether they run or wait.
    fn cancel_abandoned(&mut self) {
        let engine = &mut self.engine;
        self.readers.retain(|id, reader| {
            let is_abandoned = reader.outlet.is_abandoned();
            if is_abandoned {
                engine.cancel(*id);
            }
            !is_abandoned
        });
    }

    fn step(&mut self) -> Result<()> {
        let readers = &mut self.readers;
        let mut lost = Vec::new();
        let began = Instant::now();
        let result = self.engine.step(|id, event| {
            let Some(reader) = readers.get_mut(&id) else { return };
            match reader.hand_on(event) {
                Handed::More => {}
                Handed::Last => drop(readers.remove(&id)),
                Handed::Lost => lost.push(id),
                Handed::Failed(status) => {
                    if let Some(reader) = readers.remove(&id) {
                        reader.outlet.fail(status);
                    }
                }
            }
        });
        let is_done = match result {
            Ok(is_done) => is_done,
            Err(error) => {
                // As if its process had died, which it is about to.
                self.fail_all(&Status::unavailable(format!("the engine's model has failed: {error}")));
                return Err(Error::Model(error.to_string()));
            }
        };
        for id in lost {
            self.engine.cancel(id);
            self.readers.remove(&id);
        }
        if !is_done && !self.readers.is_empty() {
            // A reader of a request of which the engine knows nothing would wait for ever.
            self.fail_all(&Status::internal("the engine has lost the request"));
        }
        let took = is_done.then(|| began.elapsed());
        self.snapshot.update(self.engine.figures(), took);
        Ok(())
    }

    fn fail_all(&mut self, why: &Status) {
        for (id, reader) in self.readers.drain() {
            self.engine.cancel(id);
            reader.outlet.fail(why.clone());
        }
    }
}

enum Handed {
    More,
    Last,
    /// The reader has gone, or is too far behind.
    Lost,
    Failed(Status),
}

impl Reader {
    fn hand_on(&mut self, event: Event) -> Handed {
        let is_given = match event {
            Event::Started { cached_tokens } => {
                let started = Started { cached_prompt_tokens: cached_tokens as u32 };
                // Nothing says how likely the first token is.
                let first = self.first_token.map(|id| vec![Token { id, ..Token::default() }]);
                self.outlet.give(Given::Started(started))
                    && first.is_none_or(|tokens| self.outlet.give(Given::PromptTokens(PromptTokens { tokens })))
            }
            Event::Prompt(logprobs) => {
                let tokens = logprobs.into_iter().map(token_of).collect();
                self.outlet.give(Given::PromptTokens(PromptTokens { tokens }))
            }
            Event::Token { token: id, logprobs } => {
                let token = logprobs.map_or_else(|| Token { id, ..Token::default() }, token_of);
                self.outlet.give(Given::Token(token))
            }
            Event::Finished { reason, tokens, cached_tokens } => {
                self.outlet.give(Given::Finished(Finished {
                    reason: reason_of(reason).into(),
                    tokens: tokens as u32,
                    cached_prompt_tokens: cached_tokens as u32,
                    text: String::new(),
                }));
                return Handed::Last;
            }
            Event::Failed(error) => return Handed::Failed(status_of(&error)),
        };
        if is_given { Handed::More } else { Handed::Lost }
    }
}
