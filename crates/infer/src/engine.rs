//! Requests in, tokens out: a scheduler, a model and a sampler for each request.

use std::collections::HashMap;

use crate::error::Result;
use crate::figures::Figures;
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
    /// Kept from step to step.
    next: Vec<Next>,
}

impl<M: Model> Engine<M> {
    /// One without requests.
    pub fn new(model: M, limits: Limits) -> Self {
        let scheduler = Scheduler::new(limits);
        Self { model, scheduler, served: HashMap::new(), scratch: Scratch::default(), next: Vec::new() }
    }

    /// Takes a request, or says why not.
    pub fn submit(&mut self, task: Task) -> Result<RequestId> {
        task.check(self.model.vocabulary())?;
        self.scheduler.check(&task.request)?;
        let (request, served) = Served::new(task);
        let id = self.scheduler.submit(request)?;
        self.served.insert(id, served);
        Ok(id)
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

    /// What there is to do, and what was done.
    pub fn figures(&self) -> Figures {
        self.scheduler.figures()
    }
}

#[cfg(test)]
mod tests;
