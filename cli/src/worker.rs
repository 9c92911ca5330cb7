//! `palimpsest-worker`, which does what needs libtorch.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::errors::UserError;

/// The variable that names another worker than the one beside this binary.
const VARIABLE: &str = "PALIMPSEST_WORKER";

/// The worker's binary.
pub(crate) fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            let sentence = format!("{VARIABLE}: there is no file {}; check the path", path.display());
            return Err(UserError::new(sentence).into());
        }
        return Ok(path);
    }
    let own = env::current_exe().context("cannot find the command's own binary")?;
    let path = own.with_file_name("palimpsest-worker");
    if !path.is_file() {
        let sentence = format!(
            "there is no {}; build it with `make build`, or name it in the variable {VARIABLE}",
            path.display()
        );
        return Err(UserError::new(sentence).into());
    }
    Ok(path)
}

/// Becomes the worker under this command's name: comes back only if that fails.
pub(crate) fn hand_over(command: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let binary = binary()?;
    let error = Command::new(&binary).arg0("palimpsest").arg(command).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}
