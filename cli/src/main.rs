//! The `palimpsest` command.

mod bench;
mod columns;
mod data;
mod errors;
mod job;
mod lock;
mod prepare;
mod report;
mod run;
mod serve;
mod threads;
mod tokenizer;
mod validate;
mod words;
mod worker;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Continually pretrains language models of the LLaMA family.
#[derive(Debug, Parser)]
#[command(name = "palimpsest", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job on this machine; it goes on where it was.
    Run(run::Arguments),
    /// Check job files by the API server's rules.
    Validate(validate::Arguments),
    /// Print the custom resource definitions as YAML, for `kubectl apply -f -`.
    Crds,
    /// Write a checkpoint as a Hugging Face folder.
    #[command(disable_help_flag = true)]
    Export(Handed),
    /// Serve a model as an OpenAI endpoint.
    Serve(serve::Arguments),
    /// Continue a text.
    #[command(disable_help_flag = true)]
    Generate(Handed),
    /// Measure a model.
    #[command(disable_help_flag = true)]
    Eval(Handed),
    /// Measure how fast this machine trains and prepares data.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Learn, extend, measure and use vocabularies.
    #[command(subcommand)]
    Tokenizer(tokenizer::Command),
    /// Prepare a job's data, and look into it.
    #[command(subcommand)]
    Data(data::Command),
    /// Write the report of a run folder.
    Report {
        /// The run folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// What the worker parses itself.
#[derive(Debug, clap::Args)]
struct Handed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A server tells what it does; of the rest only what is wrong is told.
    let otherwise = if matches!(arguments.command, Command::Serve(_)) { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(otherwise));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_target(false)
        .without_time()
        .init();
    dispatch(arguments.command).unwrap_or_else(|error| errors::show(&error))
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Crds => {
            print!("{}", palimpsest_api::crds_yaml());
            Ok(ExitCode::SUCCESS)
        }
        Command::Export(handed) => worker::hand_over("export", &handed.arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Generate(handed) => worker::hand_over("generate", &handed.arguments),
        Command::Eval(handed) => worker::hand_over("eval", &handed.arguments),
        Command::Bench(command) => bench::run(&command),
        Command::Tokenizer(command) => tokenizer::run(&command),
        Command::Data(command) => data::run(&command),
        Command::Report { folder } => write_report(&folder),
    }
}

fn write_report(folder: &Path) -> Result<ExitCode> {
    if !folder.is_dir() {
        let sentence = format!("there is no folder {}; name the folder of a run", folder.display());
        return Err(errors::UserError::new(sentence).into());
    }
    let path = folder.join("report.html");
    palimpsest_store::write_atomically(&path, report::render(folder)?.as_bytes())?;
    println!("{}", words::path(&path));
    Ok(ExitCode::SUCCESS)
}
