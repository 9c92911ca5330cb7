//! The agent: dials the coordinator, starts a rank when it is told to, and carries events and commands between the two.
//!
//! ```text
//! coordinator ── commands ──► agent ── stdin, JSON lines ──► rank
//!             ◄── reports ───       ◄─ stdout, JSON lines ──
//! ```
//!
//! A crash of the rank costs its process; a restart of the coordinator costs nothing: the agent dials again and says
//! where it stands.

mod metrics;
mod ranks;
mod server;
mod session;
mod supervisor;
mod translate;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use self::metrics::Metrics;
use self::session::Address;

/// What an agent has to know.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The coordinator, http://HOST:PORT.
    #[arg(long, value_name = "URL", required_unless_present = "coordinator_file")]
    coordinator: Option<String>,
    /// A file that holds the coordinator's URL, and is read again whenever it is dialled.
    #[arg(long, value_name = "FILE", conflicts_with = "coordinator")]
    coordinator_file: Option<PathBuf>,
    /// How long to go on without a coordinator; then a checkpoint is written, and the agent ends.
    #[arg(long, value_name = "SECONDS")]
    orphan_seconds: Option<u64>,
    /// A name that no other agent of the job has.
    #[arg(long, default_value = "worker-0")]
    name: String,
    /// End when standard input does, because whoever started the agent is gone then.
    #[arg(long)]
    until_stdin_closes: bool,
    /// Serve /metrics there.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

/// Runs an agent until it is told to end.
pub(crate) fn main(arguments: Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let (closed, stdin_closed) = watch::channel(false);
        if arguments.until_stdin_closes {
            tokio::spawn(wait_for_the_end_of_stdin(closed));
        } else {
            // The sender stays alive, so that nobody hears of an end.
            std::mem::forget(closed);
        }
        let address = match (arguments.coordinator, arguments.coordinator_file) {
            (_, Some(path)) => Address::File(path),
            (url, None) => Address::Url(url.unwrap_or_default()),
        };
        let orphan = arguments.orphan_seconds.map(Duration::from_secs);
        let metrics = match start_metrics(arguments.metrics).await {
            Ok(metrics) => metrics,
            Err(error) => {
                tracing::error!("{error:#}");
                return ExitCode::FAILURE;
            }
        };
        session::run(&address, &arguments.name, metrics, orphan, stdin_closed).await;
        ExitCode::SUCCESS
    });
    // A read of standard input that is under way cannot be cancelled, and need not be waited for.
    runtime.shutdown_background();
    code
}

async fn start_metrics(address: Option<SocketAddr>) -> anyhow::Result<Metrics> {
    let metrics = Metrics::new()?;
    if let Some(address) = address {
        server::serve(metrics.clone(), address).await?;
    }
    Ok(metrics)
}

async fn wait_for_the_end_of_stdin(closed: watch::Sender<bool>) {
    let mut ignored = [0; 64];
    while matches!(tokio::io::stdin().read(&mut ignored).await, Ok(count) if count > 0) {}
    let _ = closed.send(true);
}
