//! The gRPC service of an engine.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use palimpsest_proto::inference::inference_server::Inference;
use palimpsest_proto::inference::{GenerateReply, GenerateRequest, StatsReply, StatsRequest};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, async_trait};

use super::driver::Submission;
use super::outlet::{gone, outlet};
use super::snapshot::Snapshot;
use super::translate::task_of;

/// Hands requests to an engine's thread.
#[derive(Debug)]
pub(super) struct Service {
    submissions: mpsc::Sender<Submission>,
    snapshot: Arc<Snapshot>,
    end_ids: Vec<u32>,
    vocabulary: usize,
}

impl Service {
    pub(super) fn new(
        submissions: mpsc::Sender<Submission>,
        snapshot: Arc<Snapshot>,
        end_ids: Vec<u32>,
        vocabulary: usize,
    ) -> Self {
        Self { submissions, snapshot, end_ids, vocabulary }
    }
}

#[async_trait]
impl Inference for Service {
    type GenerateStream = Pin<Box<dyn Stream<Item = Result<GenerateReply, Status>> + Send>>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let task = task_of(request.into_inner(), &self.end_ids, self.vocabulary)?;
        let (outlet, mut replies) = outlet();
        self.submissions.send(Submission { task, outlet }).await.map_err(|_| gone())?;
        // What is wrong with a request is told in the place of a stream.
        let first = replies.first().await?;
        Ok(Response::new(stream::iter([Ok(first)]).chain(replies).boxed()))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        Ok(Response::new(self.snapshot.read()))
    }
}
