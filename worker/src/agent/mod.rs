//! The agent: dials the coordinator, starts a rank when it is told to, and carries events and commands between the two.
//!
//! ```text
//! coordinator ── commands ──► agent ── stdin, JSON lines ──► rank
//!             ◄── reports ───       ◄─ stdout, JSON lines ──
//! ```
//!
//! A crash of the rank costs its process; a restart of the coordinator costs nothing: the agent dials again and says
//! where it stands.

mod departure;
mod dial;
mod health;
mod log;
mod memory;
mod metrics;
mod ranks;
mod server;
mod session;
mod supervisor;
mod termination;
mod translate;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use self::departure::Departure;
use self::dial::{Address, Target};
use self::health::Health;
use self::metrics::Metrics;
use self::supervisor::Supervisor;
use self::termination::TerminationFile;

/// What an agent has to know.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The coordinator, https://HOST:PORT, or http://HOST:PORT on loopback.
    #[arg(long, value_name = "URL", required_unless_present = "coordinator_file")]
    coordinator: Option<String>,
    /// A file that holds the coordinator's URL, and is read again whenever it is dialled.
    #[arg(long, value_name = "FILE", conflicts_with = "coordinator")]
    coordinator_file: Option<PathBuf>,
    /// The authority that has signed the coordinator's certificate, as PEM; read again whenever it is dialled.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The token to show the coordinator; read again whenever it is dialled.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long to go on without a coordinator; then a checkpoint is written, and the agent ends. Absent: for ever.
    #[arg(long, value_name = "SECONDS")]
    orphan_seconds: Option<u64>,
    /// How long the agent may take to end after SIGTERM, its rank's last checkpoint included.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace_seconds: u64,
    /// A name that no other agent of the job has.
    #[arg(long, default_value = "worker-0")]
    name: String,
    /// The job, as a label of all metrics.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// The job's namespace, as a label of all metrics.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Threads of a rank, where the coordinator does not say; default: the processors that this process may use.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    rank_threads: Option<u32>,
    /// End when standard input does, because whoever started the agent is gone then.
    #[arg(long)]
    until_stdin_closes: bool,
    /// Serve /metrics, /healthz and /readyz there.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// Where to say why the agent ended, as JSON; default in a pod: /dev/termination-log.
    #[arg(long, value_name = "FILE")]
    termination_file: Option<PathBuf>,
}

impl Arguments {
    /// What is logged where `RUST_LOG` says nothing. A pod's log is all that is seen of it there; `palimpsest run` shows what goes on
    /// itself, and what its agent logs besides.
    pub(crate) fn log_filter(&self) -> &'static str {
        if self.ca.is_some() { "warn,palimpsest_worker=info" } else { "warn" }
    }
}

/// Runs an agent until it is told to end.
pub(crate) fn main(arguments: Arguments) -> ExitCode {
    let target = Target {
        address: match (&arguments.coordinator, &arguments.coordinator_file) {
            (_, Some(path)) => Address::File(path.clone()),
            (url, None) => Address::Url(url.clone().unwrap_or_default()),
        },
        authority: arguments.ca.clone(),
        token: arguments.token_file.clone(),
    };
    if let Err(sentence) = target.check() {
        eprintln!("error: {sentence}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        run(arguments, &target).await.unwrap_or_else(|error| {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        })
    });
    // A read of standard input that is under way cannot be cancelled, and need not be waited for.
    runtime.shutdown_background();
    code
}

async fn run(arguments: Arguments, target: &Target) -> Result<ExitCode> {
    let departure = Departure::new(arguments.until_stdin_closes, Duration::from_secs(arguments.grace_seconds))?;
    let labels = [("job", arguments.job), ("namespace", arguments.namespace)];
    let labels = labels.into_iter().filter_map(|(label, value)| Some((label.to_owned(), value?)));
    let metrics = Metrics::new(labels.collect::<HashMap<_, _>>())?;
    let health = Health::default();
    if let Some(address) = arguments.metrics {
        server::serve(metrics.clone(), health.clone(), address).await?;
    }
    let threads = match arguments.rank_threads {
        Some(threads) => threads,
        None => allowed_processors()?,
    };
    let termination = TerminationFile::new(arguments.termination_file, target.authority.is_some());
    let mut supervisor = Supervisor::new(&arguments.name, metrics, termination, threads);
    let orphan = arguments.orphan_seconds.map(Duration::from_secs);
    let end = session::run(target, &mut supervisor, &health, orphan, departure).await;
    Ok(ExitCode::from(supervisor.conclude(end).exit_code()))
}

/// The processors that this process may use: its affinity, and the CPU limit of its control group, rounded down.
fn allowed_processors() -> Result<u32> {
    let processors = std::thread::available_parallelism().context("cannot count the processors")?;
    Ok(processors.get().try_into().unwrap_or(u32::MAX))
}
