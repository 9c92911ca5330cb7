//! `palimpsest-worker`: the only binary that links libtorch.
//!
//! ```text
//! agent                        dials the coordinator and supervises a rank process: this binary again
//! rank                         runs one job; commands on standard input, events on standard output
//! engine                       computes for a server in front of it, at a Unix socket
//! generate, eval, export, bench   what the `palimpsest` command hands over, with its terminal
//! ```

mod agent;
mod bench;
mod device;
mod eval;
mod export;
mod generate;
mod protocol;
mod rank;
mod serving;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "palimpsest-worker", version, about = "Trains: an agent that supervises a rank, and the rank itself.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Dial a coordinator and do what it says.
    Agent(agent::Arguments),
    /// Run one job, told on standard input.
    Rank,
    /// Continue a prompt.
    Generate(generate::Arguments),
    /// Measure a model on text.
    Eval(eval::Arguments),
    /// Turn a checkpoint into a Hugging Face folder.
    Export(export::Arguments),
    /// Compute for a server, at a Unix socket.
    Engine(serving::EngineArguments),
    /// Measure how fast this machine trains.
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    // Arguments first: `--version` needs no logging.
    let arguments = Arguments::parse();
    let otherwise = match &arguments.command {
        Command::Agent(arguments) => arguments.log_filter(),
        _ => "warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(otherwise));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_target(false)
        .without_time()
        .init();
    match arguments.command {
        Command::Agent(arguments) => agent::main(arguments),
        Command::Rank => rank::main(),
        Command::Generate(arguments) => exit_code(generate::run(&arguments)),
        Command::Eval(arguments) => exit_code(eval::run(&arguments)),
        Command::Export(arguments) => exit_code(export::run(&arguments)),
        Command::Engine(arguments) => serving::run_engine(&arguments),
        Command::Bench(command) => exit_code(bench::run(&command)),
    }
}

/// 0, or 2 for what the user can mend and 1 for the rest, said in one sentence.
fn exit_code(result: palimpsest_train::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::from(if error.is_users() { 2 } else { 1 })
}
