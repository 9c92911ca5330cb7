//! Fencing: which attempt at a job may still write.
//!
//! An attempt is claimed by creating a file that only one process can create. Whoever finds a newer attempt's claim has
//! been given up and must not touch anything that others read: a worker that was cut off, or stopped and woken again,
//! can so do no harm.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::claim::{Claim, create_exclusively};
use crate::publish::{give_place, place_of_attempt, remove, sync_recursively};
use crate::write::{give_name, write_beside};
use crate::{Error, Result, sha256_bytes};

/// The folder of claims beside the checkpoints.
pub(crate) const FOLDER: &str = "attempts";
const PREFIX: &str = "attempt-";

/// What a job's own file begins with: it holds the newest attempt that was there before the job's first.
const JOB_PREFIX: &str = "job-";

/// An attempt that this process has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    folder: PathBuf,
    attempt: u64,
}

impl Fence {
    /// Claims the attempt of the job `uid` at what `checkpoints` holds. `owner` says who it is, for people that look.
    ///
    /// Fails where the attempt is claimed already, or a newer one is. A job counts its attempts from 1 and knows nothing of one
    /// that was here before it: its attempts follow those that its first one found.
    pub fn claim(checkpoints: &Path, uid: &str, attempt: u64, owner: &str) -> Result<Self> {
        let folder = checkpoints.join(FOLDER);
        let attempt = first_of(&folder, uid)? + attempt;
        let fence = Self { folder, attempt };
        let path = fence.folder.join(format!("{PREFIX}{attempt:08}"));
        match create_exclusively(&path, format!("{owner}\n").as_bytes())? {
            Claim::Won => fence.check().map(|()| fence),
            Claim::Lost(_) => Err(Error::Superseded { attempt, newest: attempt }),
        }
    }

    /// Fails where a newer attempt has been claimed meanwhile.
    pub fn check(&self) -> Result<()> {
        forget_listing(&self.folder);
        match newest_in(&self.folder)? {
            Some(newest) if newest > self.attempt => Err(Error::Superseded { attempt: self.attempt, newest }),
            _ => Ok(()),
        }
    }

    /// Replaces a file, unless a newer attempt has been claimed by the time that the new one is on the disk: whoever is stopped while it is
    /// written and woken later replaces nothing.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let written = write_beside(path, |file| file.write_all(bytes))?;
        self.check()?;
        give_name(written, path)
    }

    /// Gives a staged folder its place as [`publish_folder`](crate::publish_folder) does, unless a newer attempt has been claimed by the time that it is on the disk.
    pub fn publish(&self, staging: &Path, target: &Path, replace: bool) -> Result<()> {
        sync_recursively(staging)?;
        self.check()?;
        give_place(staging, target, replace)
    }

    /// Removes a folder, unless a newer attempt has been claimed. It loses its name first, at once and whole: whoever is stopped while its
    /// files go and woken later removes only what is this attempt's own, and what is left of it is [abandoned](crate::remove_abandoned).
    pub fn remove(&self, folder: &Path) -> Result<()> {
        self.check()?;
        let hidden = place_of_attempt(folder, self.attempt);
        remove(&hidden)?;
        fs::rename(folder, &hidden).map_err(|source| Error::io("remove", folder, source))?;
        remove(&hidden)
    }

    /// The attempt's number, over all jobs that were here.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }
}

/// The newest attempt that was ever claimed at what `checkpoints` holds.
pub fn newest_attempt(checkpoints: &Path) -> Result<Option<u64>> {
    newest_in(&checkpoints.join(FOLDER))
}

/// The newest attempt that was there when the job's first one began.
fn first_of(folder: &Path, uid: &str) -> Result<u64> {
    let newest = newest_in(folder)?.unwrap_or(0);
    let path = folder.join(format!("{JOB_PREFIX}{}", &sha256_bytes(uid.as_bytes())[7..23]));
    match create_exclusively(&path, newest.to_string().as_bytes())? {
        Claim::Won => Ok(newest),
        Claim::Lost(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it holds no number");
            text.trim().parse().map_err(|_| Error::io("use", &path, damaged()))
        }
    }
}

/// Has the next listing of a folder come from the server of a network file system. It may be taken from a cache for a minute
/// otherwise, unless this machine itself has changed the folder. Where it cannot be changed nothing else can be written either.
fn forget_listing(folder: &Path) {
    let path = folder.join(format!(".look-{}", std::process::id()));
    if fs::File::create(&path).is_ok() {
        let _ = fs::remove_file(&path);
    }
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
        let first = Fence::claim(folder.path(), "a", 1, "job").unwrap();
        first.check().unwrap();
        let again = Fence::claim(folder.path(), "a", 1, "job").unwrap_err();
        assert!(matches!(again, Error::Superseded { attempt: 1, newest: 1 }), "{again}");
        let third = Fence::claim(folder.path(), "a", 3, "job").unwrap();
        assert_eq!(
            first.check().unwrap_err().to_string(),
            "attempt 1 is over: attempt 3 has been begun elsewhere; nothing more is written here"
        );
        assert!(Fence::claim(folder.path(), "a", 2, "job").is_err(), "older than one that is claimed");
        third.check().unwrap();
        assert_eq!(newest_attempt(folder.path()).unwrap(), Some(3));
    }

    #[test]
    fn a_folder_is_removed_unless_the_attempt_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let doomed = folder.path().join("step-1");
        let first = Fence::claim(folder.path(), "a", 1, "job").unwrap();
        fs::create_dir_all(doomed.join("sub")).unwrap();
        first.remove(&doomed).unwrap();
        assert!(!doomed.exists());
        fs::create_dir(&doomed).unwrap();
        Fence::claim(folder.path(), "a", 2, "job").unwrap();
        assert!(matches!(first.remove(&doomed), Err(Error::Superseded { .. })));
        assert!(doomed.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing hidden is left");
    }

    #[test]
    fn another_jobs_attempts_follow_those_that_it_found() {
        let folder = tempfile::tempdir().unwrap();
        let claim = |uid: &str, attempt| Fence::claim(folder.path(), uid, attempt, "job");
        claim("a", 1).unwrap();
        let old = claim("a", 4).unwrap();
        let new = claim("b", 1).unwrap();
        assert_eq!(new.attempt(), 5);
        assert!(old.check().is_err(), "it is over");
        assert!(claim("a", 5).is_err(), "so are its successors");
        assert_eq!(claim("b", 2).unwrap().attempt(), 6);
        assert!(new.check().is_err());
    }
}
