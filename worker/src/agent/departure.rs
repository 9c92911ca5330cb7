//! When an agent has to go: its standard input was closed, or its pod is asked to end and has so many seconds.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What of the grace is left for ending the rank and for the last words.
const RESERVE: Duration = Duration::from_millis(1500);

/// What asks an agent to go.
#[derive(Debug)]
pub(super) struct Departure {
    terminate: Signal,
    stdin: watch::Receiver<bool>,
    grace: Duration,
    /// When the rank is stopped regardless, once the agent was asked to go.
    deadline: Option<Instant>,
}

/// Why an agent has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Summons {
    /// Whoever started it is gone.
    StdinClosed,
    /// SIGTERM: its pod or machine is taken away. Said once.
    TakenAway,
    /// The rank has had its time.
    TimeIsUp,
}

impl Departure {
    /// Listens for SIGTERM, which leaves `grace`, and to standard input where `until_stdin_closes` says so.
    pub(super) fn new(until_stdin_closes: bool, grace: Duration) -> Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let (closed, stdin) = watch::channel(false);
        if until_stdin_closes {
            tokio::spawn(wait_for_the_end_of_stdin(closed));
        } else {
            // The sender stays alive, so that nobody hears of an end.
            std::mem::forget(closed);
        }
        Ok(Self { terminate, stdin, grace, deadline: None })
    }

    /// What is heard next. It may be dropped at any time.
    pub(super) async fn next(&mut self) -> Summons {
        tokio::select! {
            _ = self.stdin.wait_for(|closed| *closed) => Summons::StdinClosed,
            _ = self.terminate.recv(), if self.deadline.is_none() => {
                self.deadline = Some(Instant::now() + self.grace.saturating_sub(RESERVE));
                Summons::TakenAway
            }
            () = at(self.deadline) => Summons::TimeIsUp,
        }
    }
}

/// Ready at an instant; never where there is none.
pub(super) async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn wait_for_the_end_of_stdin(closed: watch::Sender<bool>) {
    let mut ignored = [0; 64];
    while matches!(tokio::io::stdin().read(&mut ignored).await, Ok(count) if count > 0) {}
    let _ = closed.send(true);
}
