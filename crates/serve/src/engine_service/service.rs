//! The gRPC service of an engine.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use palimpsest_infer::{Constraint, Task};
use palimpsest_proto::inference::inference_server::Inference;
use palimpsest_proto::inference::{GenerateReply, GenerateRequest, StatsReply, StatsRequest};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status, async_trait};

use super::Served;
use super::driver::Submission;
use super::outlet::{gone, outlet};
use super::snapshot::Snapshot;
use super::translate::{status_of, task_of};

/// Hands requests to an engine's thread.
#[derive(Debug)]
pub(super) struct Service {
    submissions: mpsc::Sender<Submission>,
    snapshot: Arc<Snapshot>,
    served: Served,
    vocabulary: usize,
    /// One for each format that may be read at once: as many as cores would leave none for the model.
    readers: Semaphore,
}

impl Service {
    pub(super) fn new(
        submissions: mpsc::Sender<Submission>,
        snapshot: Arc<Snapshot>,
        served: Served,
        vocabulary: usize,
    ) -> Self {
        Self { submissions, snapshot, served, vocabulary, readers: Semaphore::new(1) }
    }

    /// What the output has to follow. A large format takes a while to read, which the engine's thread has no time for.
    async fn constraint(&self, task: &Task) -> Result<Option<Constraint>, Status> {
        let (Some(format), Some(grammars)) = (&task.format, &self.served.grammars) else { return Ok(None) };
        let _permit = self.readers.acquire().await.map_err(|_| gone())?;
        let (format, grammars) = (format.clone(), Arc::clone(grammars));
        let read = tokio::task::spawn_blocking(move || grammars.constraint(&format)).await;
        let constraint = read.map_err(|_| Status::internal("the format cannot be read"))?;
        constraint.map(Some).map_err(|error| status_of(&error))
    }
}

#[async_trait]
impl Inference for Service {
    type GenerateStream = Pin<Box<dyn Stream<Item = Result<GenerateReply, Status>> + Send>>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let task = task_of(request.into_inner(), &self.served.end_ids, self.vocabulary)?;
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
