//! Where what an engine gives to one request goes.
//!
//! The engine never waits for a reader. A reader who is further behind than the channel is long has lost its request, and is told so.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use palimpsest_proto::inference::GenerateReply;
use palimpsest_proto::inference::generate_reply::Event;
use tokio::sync::mpsc;
use tonic::Status;

/// Events that a reader may be behind, beside what the transport holds for it: a megabyte or two. Memory is taken as they come.
const EVENTS: usize = 4096;

/// The engine's end.
#[derive(Debug)]
pub(super) struct Outlet {
    events: mpsc::Sender<Result<GenerateReply, Status>>,
    is_behind: Arc<AtomicBool>,
}

/// The reader's end. Dropped, it cancels the request.
#[derive(Debug)]
pub(super) struct Replies {
    events: mpsc::Receiver<Result<GenerateReply, Status>>,
    is_behind: Arc<AtomicBool>,
    is_over: bool,
}

pub(super) fn outlet() -> (Outlet, Replies) {
    let (sender, receiver) = mpsc::channel(EVENTS);
    let is_behind = Arc::new(AtomicBool::new(false));
    let outlet = Outlet { events: sender, is_behind: Arc::clone(&is_behind) };
    (outlet, Replies { events: receiver, is_behind, is_over: false })
}

impl Outlet {
    /// Whether nobody waits any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Gives the reader an event; false where it has gone, or is too far behind.
    pub(super) fn give(&self, event: Event) -> bool {
        self.send(Ok(GenerateReply { event: Some(event) }))
    }

    /// Ends the request for this reason.
    pub(super) fn fail(self, status: Status) {
        self.send(Err(status));
    }

    fn send(&self, reply: Result<GenerateReply, Status>) -> bool {
        let result = self.events.try_send(reply);
        if let Err(mpsc::error::TrySendError::Full(_)) = result {
            self.is_behind.store(true, Ordering::Release);
        }
        result.is_ok()
    }
}

impl Replies {
    /// The first event, or why there will be none.
    pub(super) async fn first(&mut self) -> Result<GenerateReply, Status> {
        self.events.recv().await.unwrap_or_else(|| Err(gone()))
    }
}

impl Stream for Replies {
    type Item = Result<GenerateReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let reply = match std::task::ready!(self.events.poll_recv(context)) {
            Some(reply) => reply,
            None if self.is_behind.load(Ordering::Acquire) => {
                Err(Status::aborted("the tokens were not read as fast as they came; the request is cancelled"))
            }
            None => Err(gone()),
        };
        let is_last = matches!(reply, Err(_) | Ok(GenerateReply { event: Some(Event::Finished(_)) }));
        self.is_over = is_last;
        Poll::Ready(Some(reply))
    }
}

pub(super) fn gone() -> Status {
    Status::unavailable("the engine has ended")
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use palimpsest_proto::inference::{Finished, Token};

    use super::*;

    fn token(id: u32) -> Event {
        Event::Token(Token { id, ..Token::default() })
    }

    #[tokio::test]
    async fn a_reader_that_is_too_far_behind_is_told_so_after_what_it_has() {
        let (outlet, replies) = outlet();
        let given = (0..9000).take_while(|id| outlet.give(token(*id))).count();
        assert_eq!(given, EVENTS);
        drop(outlet);
        let read: Vec<_> = replies.collect().await;
        assert_eq!(read.len(), EVENTS + 1);
        assert_eq!(read[EVENTS].as_ref().unwrap_err().code(), tonic::Code::Aborted);
    }

    #[tokio::test]
    async fn a_stream_ends_after_its_end_and_not_before() {
        let (outlet, replies) = outlet();
        outlet.give(token(1));
        outlet.give(Event::Finished(Finished::default()));
        drop(outlet);
        assert!(replies.collect::<Vec<_>>().await.iter().all(Result::is_ok));
        let (outlet, replies) = super::outlet();
        outlet.give(token(1));
        drop(outlet);
        let read: Vec<_> = replies.collect().await;
        assert_eq!(read[1].as_ref().unwrap_err().code(), tonic::Code::Unavailable);
    }
}
