//! The gRPC service of an engine.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use palimpsest_infer::{Constraint, Limits, Task};
use palimpsest_proto::inference::inference_server::Inference;
use palimpsest_proto::inference::{GenerateReply, GenerateRequest, StatsReply, StatsRequest};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status, async_trait};

use super::Served;
use super::driver::Submission;
use super::outlet::{gone, outlet};
use super::snapshot::Snapshot;
use super::translate::{status_of, task_of};
use crate::blocking::Blocking;

/// Hands requests to an engine's thread.
#[derive(Debug)]
pub(super) struct Service {
    submissions: mpsc::Sender<Submission>,
    snapshot: Arc<Snapshot>,
    served: Served,
    vocabulary: usize,
    limits: Limits,
    /// Threads that read formats: as many as cores would leave none for the model.
    readers: Blocking,
    /// One for each request whose format may wait to be read: as many as may wait for the engine.
    unread: Semaphore,
}

impl Service {
    pub(super) fn new(
        submissions: mpsc::Sender<Submission>,
        snapshot: Arc<Snapshot>,
        served: Served,
        vocabulary: usize,
        limits: Limits,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let readers = Blocking::new((cores / 4).clamp(1, 4));
        let unread = Semaphore::new(limits.waiting_requests.min(Semaphore::MAX_PERMITS));
        Self { submissions, snapshot, served, vocabulary, limits, readers, unread }
    }

    /// What the output has to follow. A large format takes a while to read, which the engine's thread has no time for; and nobody reads it
    /// for a request that would not be taken.
    async fn constraint(&self, task: &Task) -> Result<Option<Constraint>, Status> {
        let (Some(format), Some(formats)) = (&task.format, &self.served.formats) else { return Ok(None) };
        if let Some(known) = formats.known(format) {
            return Ok(Some(known));
        }
        let full = || Status::resource_exhausted("as many requests wait as may; try again later");
        if self.snapshot.is_full() {
            return Err(full());
        }
        let _place = self.unread.try_acquire().map_err(|_| full())?;
        let (format, formats) = (format.clone(), formats.clone());
        let read = self.readers.run(move || formats.constraint(&format)).await;
        let constraint = read.ok_or_else(|| Status::internal("the format cannot be read"))?;
        constraint.map(Some).map_err(|error| status_of(&error))
    }
}

#[async_trait]
impl Inference for Service {
    type GenerateStream = Pin<Box<dyn Stream<Item = Result<GenerateReply, Status>> + Send>>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let task = task_of(request.into_inner(), &self.served.end_ids, self.vocabulary)?;
        let check = task.check(self.vocabulary).and_then(|()| self.limits.check(&task.request));
        check.map_err(|error| status_of(&error))?;
        let constraint = self.constraint(&task).await?;
        let (outlet, mut replies) = outlet();
        self.submissions.send(Submission { task, constraint, outlet }).await.map_err(|_| gone())?;
        // What is wrong with a request is told in the place of a stream.
        let first = replies.first().await?;
        Ok(Response::new(stream::iter([Ok(first)]).chain(replies).boxed()))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        Ok(Response::new(self.snapshot.read()))
    }
}
