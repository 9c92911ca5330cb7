//! `palimpsest validate`: job files by the rules of the API server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::{errors, job};

/// Job files.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The job files.
    #[arg(value_name = "JOB.yaml", required = true)]
    files: Vec<PathBuf>,
}

/// Checks every file, whatever is wrong with the others.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in &arguments.files {
        match job::read(file, &[]) {
            Ok(job) => println!("{}: TrainingJob {} is valid", file.display(), job.metadata.name),
            Err(error) => code = errors::show(&error),
        }
    }
    Ok(code)
}
