//! What a server hears of agents.

use palimpsest_proto::control::{Attempt, Command, Hello, report};
use tokio::sync::mpsc::{self, error::TrySendError};
use tonic::Status;

use crate::Caller;

/// Which stream something came by. An agent that dials again has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(crate) u64);

/// What is heard of agents.
#[derive(Debug)]
pub enum Heard {
    /// An agent opened a stream, and may.
    Attached(Attached),
    /// It reported.
    Reported(Reported),
    /// Its stream has ended. Its ranks may well live.
    Detached {
        /// Which stream.
        link: LinkId,
    },
}

/// An agent that opened a stream.
#[derive(Debug)]
pub struct Attached {
    /// The stream.
    pub link: LinkId,
    /// Who it has been shown to be.
    pub caller: Caller,
    /// Who it says it is, and what it has.
    pub hello: Hello,
    /// What it is running, if anything.
    pub attempt: Option<Attempt>,
    /// What it is told goes here.
    pub commands: Commands,
}

/// A report.
#[derive(Clone, Debug)]
pub struct Reported {
    /// The stream that it came by.
    pub link: LinkId,
    /// What it is about.
    pub attempt: Attempt,
    /// What is told.
    pub report: report::Report,
}

/// The way to an agent. Dropping it ends the stream; the agent dials again then.
#[derive(Debug)]
pub struct Commands(pub(crate) mpsc::Sender<Result<Command, Status>>);

impl Commands {
    /// Hands a command over. False where the stream has ended or the agent takes nothing any more: then it is of no use,
    /// and the agent will say where it stands when it dials again.
    pub fn send(&self, command: Command) -> bool {
        match self.0.try_send(Ok(command)) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                tracing::warn!("an agent takes no commands; its stream is ended");
                false
            }
        }
    }
}
