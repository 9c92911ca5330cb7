//! The stream to the coordinator, dialled as often as it takes.

use std::time::Duration;

use anyhow::Result;
use palimpsest_proto::control::control_client::ControlClient;
use palimpsest_proto::control::{Command, Report, report};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::supervisor::Supervisor;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// An open stream.
struct Link {
    reports: mpsc::Sender<Report>,
    commands: Streaming<Command>,
}

/// Serves the coordinator at `url` until whoever started the agent is gone.
pub(super) async fn run(url: &str, name: &str, mut stdin_closed: watch::Receiver<bool>) {
    let mut supervisor = Supervisor::new(name);
    loop {
        let dialling = dial(url);
        tokio::pin!(dialling);
        let link = loop {
            tokio::select! {
                link = &mut dialling => break link,
                // Nobody listens. How the rank ends is kept for the next hello.
                _ = supervisor.next_report() => {}
                _ = stdin_closed.changed() => return supervisor.end_rank().await,
            }
        };
        if serve(link, &mut supervisor, &mut stdin_closed).await {
            return supervisor.end_rank().await;
        }
        tracing::warn!("the coordinator is gone; dialling again");
    }
}

/// Serves a stream until it ends; true if the agent is to end, too.
async fn serve(mut link: Link, supervisor: &mut Supervisor, stdin_closed: &mut watch::Receiver<bool>) -> bool {
    for report in supervisor.hello() {
        link.send(report).await;
    }
    loop {
        tokio::select! {
            command = link.commands.message() => match command {
                Ok(Some(command)) => {
                    if let Some(report) = supervisor.obey(command).await {
                        link.send(report).await;
                    }
                }
                Ok(None) | Err(_) => return false,
            },
            report = supervisor.next_report() => link.send(report).await,
            _ = stdin_closed.changed() => return true,
        }
    }
}

impl Link {
    /// Reports; a coordinator that is behind misses steps, but nothing else.
    async fn send(&self, report: Report) {
        if matches!(report.report, Some(report::Report::Progress(_))) {
            let _ = self.reports.try_send(report);
        } else {
            // Where the stream has ended, the next command tells so.
            let _ = self.reports.send(report).await;
        }
    }
}

async fn dial(url: &str) -> Link {
    let mut delay = FIRST_DELAY;
    loop {
        match attach(url).await {
            Ok(link) => return link,
            Err(error) => tracing::debug!(%error, url, "cannot dial the coordinator"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

async fn attach(url: &str) -> Result<Link> {
    let mut client = ControlClient::connect(url.to_owned()).await?;
    let (reports, receiver) = mpsc::channel(64);
    let commands = client.attach(ReceiverStream::new(receiver)).await?.into_inner();
    Ok(Link { reports, commands })
}
