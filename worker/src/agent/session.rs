//! The stream to the coordinator, dialled as often as it takes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use palimpsest_proto::control::control_client::ControlClient;
use palimpsest_proto::control::{Command, Report, report};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::metrics::Metrics;
use super::supervisor::Supervisor;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Where the coordinator is.
#[derive(Clone, Debug)]
pub(super) enum Address {
    /// There.
    Url(String),
    /// Where this file says, at the time of each call: whoever coordinates next writes it anew.
    File(PathBuf),
}

/// An open stream.
struct Link {
    reports: mpsc::Sender<Report>,
    commands: Streaming<Command>,
}

/// Serves the coordinator until it says to leave, nobody has answered for as long as an orphan lives, or whoever started
/// the agent is gone.
pub(super) async fn run(
    address: &Address,
    name: &str,
    metrics: Metrics,
    orphan: Option<Duration>,
    mut stdin_closed: watch::Receiver<bool>,
) {
    let mut supervisor = Supervisor::new(name, metrics);
    loop {
        let dialling = dial(address);
        let given_up = give_up(orphan.map(|orphan| Instant::now() + orphan));
        tokio::pin!(given_up);
        tokio::pin!(dialling);
        let link = loop {
            tokio::select! {
                link = &mut dialling => break link,
                // Nobody listens. How the rank ends is kept for the next hello.
                _ = supervisor.next_report() => {}
                () = &mut given_up => {
                    tracing::warn!("nobody coordinates this worker any more; it writes a checkpoint and ends");
                    return supervisor.drain_and_wait().await;
                }
                _ = stdin_closed.changed() => return supervisor.stop_and_wait().await,
            }
        };
        if serve(link, &mut supervisor, &mut stdin_closed).await {
            return supervisor.stop_and_wait().await;
        }
        tracing::warn!("the coordinator is gone; dialling again");
    }
}

/// Serves a stream until it ends; true if the agent is to end, too.
async fn serve(mut link: Link, supervisor: &mut Supervisor, stdin_closed: &mut watch::Receiver<bool>) -> bool {
    for report in supervisor.hello() {
        link.send(report).await;
    }
    while !supervisor.is_done() {
        tokio::select! {
            command = link.commands.message() => match command {
                Ok(Some(command)) => {
                    for report in supervisor.obey(command).await {
                        link.send(report).await;
                    }
                }
                Ok(None) | Err(_) => return false,
            },
            report = supervisor.next_report() => link.send(report).await,
            _ = stdin_closed.changed() => return true,
        }
    }
    true
}

async fn give_up(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Link {
    /// Reports; a coordinator that is behind misses steps and signs of life, but nothing else.
    async fn send(&self, report: Report) {
        if matches!(report.report, Some(report::Report::Progress(_) | report::Report::Alive(_))) {
            let _ = self.reports.try_send(report);
        } else {
            // Where the stream has ended, the next command tells so.
            let _ = self.reports.send(report).await;
        }
    }
}

async fn dial(address: &Address) -> Link {
    let mut delay = FIRST_DELAY;
    loop {
        match attach(address).await {
            Ok(link) => return link,
            Err(error) => tracing::debug!(%error, ?address, "cannot dial the coordinator"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

async fn attach(address: &Address) -> Result<Link> {
    let url = match address {
        Address::Url(url) => url.clone(),
        Address::File(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            text.trim().to_owned()
        }
    };
    let mut client = ControlClient::connect(url).await?;
    let (reports, receiver) = mpsc::channel(64);
    let commands = client.attach(ReceiverStream::new(receiver)).await?.into_inner();
    Ok(Link { reports, commands })
}
