//! The memory that requests take while they are read, all of them together.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::openai::ApiError;

/// The memory that requests may take while they are read. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    left: Arc<Semaphore>,
}

/// What one request takes of it. Dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Share {
    bodies: Bodies,
    taken: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// So many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))) }
    }

    /// A share of which nothing is taken yet. It grows by what comes, not by what is announced: who announces much and sends nothing
    /// keeps nobody out.
    pub(crate) fn share(&self) -> Share {
        Share { bodies: self.clone(), taken: None }
    }
}

impl Share {
    /// Takes so many bytes more, or says that there are none.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), ApiError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let left = Arc::clone(&self.bodies.left);
        let more = left.try_acquire_many_owned(bytes).map_err(|_| {
            ApiError::full("the requests that are being read have as much memory as they may; try again later")
        })?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

/// A body of gRPC, whose messages are put together elsewhere, with its share.
#[derive(Debug)]
pub(crate) struct Shared<B> {
    pub(crate) body: B,
    pub(crate) share: Share,
}

impl<B: HttpBody<Data = Bytes, Error = tonic::Status> + Unpin> HttpBody for Shared<B> {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        let bytes = frame.as_ref().and_then(|frame| Some(frame.as_ref().ok()?.data_ref()?.len()));
        if let Err(error) = self.share.take(bytes.unwrap_or(0)) {
            return Poll::Ready(Some(Err(error.to_status())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_taken_as_they_grow_and_given_back_whole() {
        let bodies = Bodies::new(100);
        let (mut one, mut other) = (bodies.share(), bodies.share());
        assert!(one.take(40).is_ok() && one.take(40).is_ok() && other.take(20).is_ok());
        assert_eq!(other.take(1).unwrap_err().code, Some("queue_full"));
        drop(one);
        assert!(other.take(80).is_ok() && other.take(1).is_err());
    }
}
