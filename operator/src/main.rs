//! The operator: makes the pods of TrainingJobs, coordinates their agents, and says in the status what has come of them.
//!
//! ```text
//!   API server ── watches ──► controller ── queue ───► reconcile: Sight ─► plan ─► writes ──► API server
//!                                ▲                        │ Observation
//!                                │ reasons for a visit    ▼
//!   agents ──── gRPC, TLS ────► control ── reports ──► jobs: a coordinator each ── commands ──► agents
//! ```
//!
//! One replica leads; whatever it has in memory can be had again from the API server and the agents.

mod arguments;
mod budget;
mod children;
mod client;
mod control;
mod controller;
mod hash;
mod http;
mod jobs;
mod leader;
mod metrics;
mod observe;
mod plan;
mod queue;
mod reconcile;
mod resource;
mod run;
mod settings;
mod status;
mod visits;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    run::main(&arguments)
}
