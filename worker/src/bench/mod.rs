//! `bench`: how fast this machine trains and serves.
//!
//! By itself it measures a model of a given shape. To be compared with another program, it reads a model and a batch that
//! both were given, and takes its turns when told: a number on a line of standard input is so many repetitions, the
//! answer a line of JSON.

mod infer;
mod loss;
mod train;
mod turns;

use palimpsest_train::Result;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Training steps: passes, clipping and the optimizer.
    Train(train::Arguments),
    /// Requests through the engine, without a server.
    Infer(infer::Arguments),
    /// The head and the loss alone, forward and backward.
    Loss(loss::Arguments),
}

/// Measures, and prints what was measured.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Infer(arguments) => infer::run(arguments),
        Command::Loss(arguments) => loss::run(arguments),
    }
}
