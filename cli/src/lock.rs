//! One run at a time in a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::FdFlags;

use crate::errors::UserError;

/// How long the worker of a run that was killed may take to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);

/// A folder that is ours, until this process and all that it started are gone.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, or says which process has it.
    ///
    /// The lock belongs to the open file, which the worker's processes inherit: where this process is killed, the folder
    /// is free only when the last of them has ended, and so nobody writes into it but one run.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| palimpsest_store::Error::io("create", folder, source))?;
        let path = folder.join(".lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| palimpsest_store::Error::io("open", &path, source))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let owner = owner(&mut file);
                    if owner.as_deref().is_none_or(is_alive) || began.elapsed() > ORPHAN_GRACE {
                        let process = owner.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                        let sentence = format!(
                            "{} is in use by {process}; wait for it, stop it, or choose another folder with --output",
                            folder.display()
                        );
                        return Err(UserError::new(sentence).into());
                    }
                    thread::sleep(Duration::from_millis(100));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            file.sync_data()
        };
        write(&mut file).map_err(|source| palimpsest_store::Error::io("write", &path, source))?;
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// The process that wrote its number there last.
fn owner(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    let pid = text.trim();
    (!pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())).then(|| pid.to_owned())
}

fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat"));
    // A zombie holds nothing.
    status.is_ok_and(|status| !status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_free_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(lock);
        Lock::take(folder.path()).unwrap();
    }
}
