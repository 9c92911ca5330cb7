//! The agent's life: the coordinator dialled as often as it takes, and served; then the end.

use std::time::Duration;

use palimpsest_proto::control::Report;
use tokio::time::{Instant, sleep};

use super::departure::{Departure, Summons, at};
use super::dial::{Link, Target, Trouble};
use super::health::Health;
use super::supervisor::Supervisor;

const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Short on one machine, where the next run takes over; longer where thousands of agents dial one operator.
const LONGEST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY_OVER_TLS: Duration = Duration::from_secs(5);

/// How an agent came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to leave.
    Left,
    /// Nobody has coordinated it for as long as an orphan lives.
    Orphaned,
    /// Whoever started it is gone.
    Unwanted,
    /// Its machine or pod is taken away.
    TakenAway,
}

/// Serves the coordinator until it says to leave, nobody has answered for as long as an orphan lives, whoever started the
/// agent is gone, or the machine is taken away. No rank is left then.
pub(super) async fn run(
    target: &Target,
    supervisor: &mut Supervisor,
    health: &Health,
    orphan: Option<Duration>,
    mut departure: Departure,
) -> End {
    let longest = if target.authority.is_some() { LONGEST_DELAY_OVER_TLS } else { LONGEST_DELAY };
    let mut delay = Duration::ZERO;
    let mut log = TroubleLog::default();
    let mut alone_since = Instant::now();
    loop {
        let given_up = orphan.map(|orphan| alone_since + orphan);
        let called = match call(target, delay, given_up, supervisor, health, &mut departure).await {
            Ok(called) => called,
            Err(end) => {
                supervisor.stop_and_wait().await;
                return end;
            }
        };
        let link = match called {
            Ok(link) => link,
            Err(trouble) => {
                log.note(&trouble);
                delay = (delay * 2).clamp(FIRST_DELAY, longest);
                continue;
            }
        };
        log.clear();
        if let Some(end) = serve(link, supervisor, health, &mut departure).await {
            supervisor.stop_and_wait().await;
            return end;
        }
        tracing::warn!("the coordinator is gone; dialling again");
        delay = FIRST_DELAY;
        alone_since = Instant::now();
    }
}

/// Calls once after a while, unless the agent ends before.
async fn call(
    target: &Target,
    delay: Duration,
    given_up: Option<Instant>,
    supervisor: &mut Supervisor,
    health: &Health,
    departure: &mut Departure,
) -> Result<Result<Link, Trouble>, End> {
    let calling = call_after(delay, target, supervisor.hello());
    tokio::pin!(calling);
    loop {
        health.set(false, supervisor.has_rank());
        if supervisor.is_gone() {
            return Err(End::TakenAway);
        }
        tokio::select! {
            called = &mut calling => return Ok(called),
            // Nobody listens. What matters of it is kept for whoever answers next.
            _ = supervisor.next_report() => {}
            () = at(given_up) => {
                tracing::warn!("nobody coordinates this worker any more; it writes a checkpoint and ends");
                supervisor.drain_and_wait().await;
                return Err(End::Orphaned);
            }
            summons = departure.next() => match summons {
                Summons::StdinClosed => return Err(End::Unwanted),
                Summons::TakenAway => supervisor.take_away().await,
                Summons::TimeIsUp => return Err(End::TakenAway),
            },
        }
    }
}

/// Serves a stream until it ends, or the agent does.
async fn serve(mut link: Link, supervisor: &mut Supervisor, health: &Health, departure: &mut Departure) -> Option<End> {
    let mut reports = supervisor.after_hello();
    loop {
        for report in std::mem::take(&mut reports) {
            if !link.send(report).await {
                tracing::warn!("the coordinator does not listen");
                return None;
            }
        }
        health.set(true, supervisor.has_rank());
        if supervisor.is_gone() {
            link.finish().await;
            return Some(End::TakenAway);
        }
        if supervisor.is_done() {
            return Some(End::Left);
        }
        reports = tokio::select! {
            command = link.commands.message() => match command {
                Ok(Some(command)) => supervisor.obey(command).await,
                Ok(None) => return None,
                Err(status) => {
                    tracing::debug!(%status, "the stream has ended");
                    return None;
                }
            },
            report = supervisor.next_report() => vec![report],
            summons = departure.next() => match summons {
                Summons::StdinClosed => return Some(End::Unwanted),
                Summons::TakenAway => {
                    supervisor.take_away().await;
                    vec![supervisor.leaving()]
                }
                Summons::TimeIsUp => return Some(End::TakenAway),
            },
        };
    }
}

async fn call_after(delay: Duration, target: &Target, hello: Report) -> Result<Link, Trouble> {
    sleep(delay).await;
    target.call(hello).await
}

/// Says what keeps the agent from its coordinator, once for as long as it stays the same.
#[derive(Debug, Default)]
struct TroubleLog {
    last: Option<Trouble>,
}

impl TroubleLog {
    fn note(&mut self, trouble: &Trouble) {
        if trouble.is_usual {
            tracing::debug!("{trouble}");
        } else if self.last.as_ref() != Some(trouble) {
            tracing::warn!("{trouble}");
            self.last = Some(trouble.clone());
        }
    }

    fn clear(&mut self) {
        if self.last.take().is_some() {
            tracing::warn!("the coordinator answers again");
        }
    }
}
