//! Requests in, tokens out: a scheduler, a model and a sampler for each request.

use std::collections::HashMap;
use std::sync::Arc;

use crate::constraint::Constraint;
use crate::error::{Error, Result};
use crate::figures::Figures;
use crate::format::Format;
use crate::grammars::Grammars;
use crate::limits::Limits;
use crate::model::Model;
use crate::request::RequestId;
use crate::sampler::Scratch;
use crate::scheduler::Scheduler;
use crate::task::{Event, Task};
use crate::work::Next;

mod served;

use served::Served;

/// Serves requests with a model.
#[derive(Debug)]
pub struct Engine<M> {
    model: M,
    scheduler: Scheduler,
    served: HashMap<RequestId, Served>,
    scratch: Scratch,
    grammars: Option<Arc<Grammars>>,
    /// Kept from step to step.
    next: Vec<Next>,
}

impl<M: Model> Engine<M> {
    /// One without requests.
    pub fn new(model: M, limits: Limits) -> Self {
        Self {
            model,
            scheduler: Scheduler::new(limits),
            served: HashMap::new(),
            scratch: Scratch::default(),
            grammars: None,
            next: Vec::new(),
        }
    }

    /// The same, that knows its tokens' text, and so can follow formats.
    #[must_use]
    pub fn with_grammars(self, grammars: Arc<Grammars>) -> Self {
        Self { grammars: Some(grammars), ..self }
    }

    /// Takes a request, or says why not. Its format is read here, which takes a large one some of a second: whoever can't wait gives a
    /// constraint, by [`submit_following`](Self::submit_following).
    pub fn submit(&mut self, task: Task) -> Result<RequestId> {
        self.check(&task)?;
        let constraint = task.format.as_ref().map(|format| self.constraint(format)).transpose()?;
        self.take(task, constraint)
    }

    /// Takes a request whose output follows a constraint, which [`Grammars::constraint`] has made in another thread. The task's own format isn't read.
    pub fn submit_following(&mut self, task: Task, constraint: Constraint) -> Result<RequestId> {
        self.check(&task)?;
        self.take(task, Some(constraint))
    }

    fn check(&self, task: &Task) -> Result<()> {
        task.check(self.model.vocabulary())?;
        self.scheduler.check(&task.request)
    }

    fn take(&mut self, task: Task, constraint: Option<Constraint>) -> Result<RequestId> {
        let (request, served) = Served::new(task, constraint);
        let id = self.scheduler.submit(request)?;
        self.served.insert(id, served);
        Ok(id)
    }

    fn constraint(&self, format: &Format) -> Result<Constraint> {
        let grammars = self.grammars.as_ref().ok_or(Error::NoFormats { field: format.field() })?;
        grammars.constraint(format)
    }

    /// Forgets a request; nothing more comes of it.
    pub fn cancel(&mut self, id: RequestId) {
        self.served.remove(&id);
        self.scheduler.cancel(id);
    }

    /// Computes the next step and tells what came of it; false where there is nothing to do. Where the model fails, no request can go on.
    pub fn step(&mut self, mut tell: impl FnMut(RequestId, Event)) -> Result<bool, M::Error> {
        let step = self.scheduler.plan();
        if step.is_empty() {
            return Ok(false);
        }
        for work in step.iter().filter(|work| work.is_first) {
            tell(work.id, Event::Started { cached_tokens: work.position });
        }
        let vocabulary = self.model.vocabulary();
        let mut logits = self.model.step(&step)?;
        self.next.clear();
        for work in &step {
            let (own, others) = logits.split_at((work.rows() * vocabulary).min(logits.len()));
            logits = others;
            let Some(served) = self.served.get_mut(&work.id) else {
                self.next.push(Next::End);
                continue;
            };
            let next = served.go_on(work, own, vocabulary, &mut self.scratch, |event| tell(work.id, event));
            if matches!(next, Next::LastToken | Next::End) {
                self.served.remove(&work.id);
            }
            self.next.push(next);
        }
        self.scheduler.complete(&self.next);
        Ok(true)
    }

    /// What computes its steps.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// What there is to do, and what was done.
    pub fn figures(&self) -> Figures {
        self.scheduler.figures()
    }
}

#[cfg(test)]
mod tests;
