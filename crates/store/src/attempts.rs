//! Fencing: which attempt at a job may still write.
//!
//! An attempt is claimed by creating a file that only one process can create. Whoever finds a newer attempt's claim has
//! been given up and must not touch anything that others read: a worker that was cut off, or stopped and woken again,
//! can so do no harm.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::claim::{Claim, create_exclusively};
use crate::{Error, Result};

/// The folder of claims beside the checkpoints.
const FOLDER: &str = "attempts";
const PREFIX: &str = "attempt-";

/// An attempt that this process has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    folder: PathBuf,
    attempt: u64,
}

impl Fence {
    /// Claims an attempt at what `checkpoints` holds. `owner` says who it is, for people that look.
    ///
    /// Fails where the attempt is claimed already, or a newer one is.
    pub fn claim(checkpoints: &Path, attempt: u64, owner: &str) -> Result<Self> {
        let fence = Self { folder: checkpoints.join(FOLDER), attempt };
        let path = fence.folder.join(format!("{PREFIX}{attempt:08}"));
        match create_exclusively(&path, format!("{owner}\n").as_bytes())? {
            Claim::Won => fence.check().map(|()| fence),
            Claim::Lost(_) => Err(Error::Superseded { attempt, newest: attempt }),
        }
    }

    /// Fails where a newer attempt has been claimed meanwhile. To be asked before a manifest is written, a checkpoint
    /// deleted or an output published.
    pub fn check(&self) -> Result<()> {
        match newest_in(&self.folder)? {
            Some(newest) if newest > self.attempt => Err(Error::Superseded { attempt: self.attempt, newest }),
            _ => Ok(()),
        }
    }

    /// The attempt's number.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }
}

/// The newest attempt that was ever claimed at what `checkpoints` holds.
pub fn newest_attempt(checkpoints: &Path) -> Result<Option<u64>> {
    newest_in(&checkpoints.join(FOLDER))
}

fn newest_in(folder: &Path) -> Result<Option<u64>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", folder, source)),
    };
    let mut newest = None;
    for entry in entries {
        let name = entry.map_err(|source| Error::io("read", folder, source))?.file_name();
        newest = newest.max(name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok()));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_claimed_once_and_ends_where_a_newer_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest_attempt(folder.path()).unwrap(), None);
        let first = Fence::claim(folder.path(), 1, "job").unwrap();
        first.check().unwrap();
        let again = Fence::claim(folder.path(), 1, "job").unwrap_err();
        assert!(matches!(again, Error::Superseded { attempt: 1, newest: 1 }), "{again}");
        let third = Fence::claim(folder.path(), 3, "job").unwrap();
        assert_eq!(
            first.check().unwrap_err().to_string(),
            "attempt 1 is over: attempt 3 has been begun elsewhere; nothing more is written here"
        );
        assert!(Fence::claim(folder.path(), 2, "job").is_err(), "older than one that is claimed");
        third.check().unwrap();
        assert_eq!(newest_attempt(folder.path()).unwrap(), Some(3));
    }
}
