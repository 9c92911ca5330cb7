//! `palimpsest validate`: job files by the rules of where they are to run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use palimpsest_api::Place;

use crate::{errors, job};

/// Job files.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The job files.
    #[arg(value_name = "JOB.yaml", required = true)]
    files: Vec<PathBuf>,
    /// Judge as a cluster's API server does: its pods share no file:// of one machine.
    #[arg(long)]
    cluster: bool,
}

/// Checks every file, whatever is wrong with the others.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let place = if arguments.cluster { Place::Cluster } else { Place::Machine };
    let mut code = ExitCode::SUCCESS;
    for file in &arguments.files {
        match job::read(file, &[], place) {
            Ok(job) => println!("{}: TrainingJob {} is valid", file.display(), job.metadata.name),
            Err(error) => code = errors::show(&error),
        }
    }
    Ok(code)
}
