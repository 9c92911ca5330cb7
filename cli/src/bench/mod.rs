//! `palimpsest bench`: how fast this machine trains and serves, which the worker measures, and prepares data, which needs none.

mod data;

use std::process::ExitCode;

use anyhow::Result;

use crate::{Handed, worker};

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Training steps: passes, clipping and the optimizer.
    #[command(disable_help_flag = true)]
    Train(Handed),
    /// Requests through the engine, without a server.
    #[command(disable_help_flag = true)]
    Infer(Handed),
    /// The head and the loss alone, forward and backward.
    #[command(disable_help_flag = true)]
    Loss(Handed),
    /// Tokenising and packing: a job's data, or files with a tokenizer.
    Data(data::Arguments),
}

/// Measures, and prints what was measured.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Train(handed) => hand_over("train", handed),
        Command::Infer(handed) => hand_over("infer", handed),
        Command::Loss(handed) => hand_over("loss", handed),
        Command::Data(arguments) => data::run(arguments),
    }
}

fn hand_over(kind: &str, handed: &Handed) -> Result<ExitCode> {
    let mut arguments = vec![kind.into()];
    arguments.extend_from_slice(&handed.arguments);
    worker::hand_over("bench", &arguments)
}
