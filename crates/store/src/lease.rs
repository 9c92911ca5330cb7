//! Whose checkpoints a folder takes: one job's at a time.
//!
//! Attempts of one job are told apart by their claims ([`crate::Fence`]). Two jobs know nothing of each other's attempts: the one
//! whose workers live keeps the folder, by a file that it renews. `flock` would not do: a claim may be mounted on several
//! nodes, and network file systems lock within a node, or not at all.
//!
//! What is relied on of the file system: exclusive creation, renaming, and that who opens a file sees what was there when
//! another closed it. No clocks are compared: a lease counts as given up when it was watched for a while and not renewed. Who is
//! wrong about that, because the other was only stopped, does no harm: what is begun then is fenced off from what was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::attempts::FOLDER;
use crate::claim::{Claim, create_exclusively};
use crate::{Error, Result};

const FILE: &str = "lease";

/// All leases are as long, so that one is overwritten without a rest of the other.
const LENGTH: usize = 512;

/// How often a lease is renewed, and how long one is watched before it counts as given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// Between two renewals.
    pub renewal: Duration,
    /// Without any, the lease is given up.
    pub expiry: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self { renewal: Duration::from_secs(3), expiry: Duration::from_secs(20) }
    }
}

/// A folder of checkpoints that one job's worker has, until this is dropped.
#[derive(Debug)]
pub struct Lease {
    /// Dropping it ends the thread.
    end: Option<Sender<()>>,
    renewing: Option<JoinHandle<()>>,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    uid: String,
    job: String,
    /// Which process, of which machine.
    holder: String,
    renewals: u64,
}

impl Lease {
    /// Takes the folder `checkpoints` for the job `uid`, whose name is `job`. A lease of the same job is taken over at once.
    /// Another job's is watched: fails with [`Error::InUse`] if it is renewed, and with [`Error::Interrupted`] where `is_over` says
    /// that it is not worth it any more.
    pub fn take(
        checkpoints: &Path,
        uid: &str,
        job: &str,
        times: LeaseTimes,
        is_over: impl Fn() -> bool,
    ) -> Result<Self> {
        let path = checkpoints.join(FOLDER).join(FILE);
        let holder = format!("process {} on {}", std::process::id(), host());
        let record = Record { uid: uid.to_owned(), job: job.to_owned(), holder, renewals: 0 };
        if create_exclusively(&path, &record.bytes())? != Claim::Won {
            watch(checkpoints, &path, uid, times, is_over)?;
            write(&path, &record)?;
        }
        let (end, told) = channel();
        let renewing = thread::spawn(move || {
            let mut record = record;
            while told.recv_timeout(times.renewal) == Err(RecvTimeoutError::Timeout) {
                record.renewals += 1;
                if read(&path).is_ok_and(|now| now.is_some_and(|now| !now.is_of_process_of(&record))) {
                    // Another attempt, or another job, has it now.
                    return;
                }
                // Where that fails the next time may do better. Whoever takes the folder meanwhile is fenced off from this.
                let _ = write(&path, &record);
            }
            if read(&path).is_ok_and(|now| now.is_some_and(|now| now.is_of_process_of(&record))) {
                let _ = fs::remove_file(&path);
            }
        });
        Ok(Self { end: Some(end), renewing: Some(renewing) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(renewing) = self.renewing.take() {
            let _ = renewing.join();
        }
    }
}

/// Waits until another job's lease counts as given up.
fn watch(checkpoints: &Path, path: &Path, uid: &str, times: LeaseTimes, is_over: impl Fn() -> bool) -> Result<()> {
    let Some(first) = read(path)?.filter(|record| record.uid != uid) else { return Ok(()) };
    let began = Instant::now();
    while began.elapsed() < times.expiry {
        match read(path)? {
            None => return Ok(()),
            Some(now) if now.uid == uid => return Ok(()),
            Some(now) if now != first => {
                let Record { job, holder, .. } = now;
                return Err(Error::InUse { folder: checkpoints.to_owned(), job, holder });
            }
            Some(_) if is_over() => return Err(Error::Interrupted),
            Some(_) => thread::sleep(times.renewal.min(Duration::from_millis(100))),
        }
    }
    Ok(())
}

/// Written in place: who opens a file asks the server what is in it, but may take its name from a cache.
fn write(path: &Path, record: &Record) -> Result<()> {
    let open = || -> io::Result<File> { OpenOptions::new().write(true).create(true).truncate(false).open(path) };
    let written = open().and_then(|mut file| {
        file.write_all_at(&record.bytes(), 0)?;
        file.flush()?;
        file.sync_data()
    });
    written.map_err(|source| Error::io("write", path, source))
}

/// None where there is no lease, or one that is being written.
fn read(path: &Path) -> Result<Option<Record>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Record::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("read", path, source)),
    }
}

impl Record {
    fn is_of_process_of(&self, other: &Self) -> bool {
        (&self.uid, &self.holder) == (&other.uid, &other.holder)
    }

    /// Four lines, and spaces up to the length of all.
    fn bytes(&self) -> Vec<u8> {
        let short = |text: &str| text.replace('\n', " ").chars().take(100).collect::<String>();
        let Self { uid, job, holder, renewals } = self;
        let mut text = format!("{}\n{}\n{}\n{renewals}\n", short(uid), short(job), short(holder)).into_bytes();
        text.resize(text.len().max(LENGTH), b' ');
        text
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines().map(str::to_owned);
        let (uid, job, holder) = (lines.next()?, lines.next()?, lines.next()?);
        Some(Self { uid, job, holder, renewals: lines.next()?.parse().ok()? })
    }
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or("this machine".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const QUICK: LeaseTimes = LeaseTimes { renewal: Duration::from_millis(20), expiry: Duration::from_millis(300) };

    fn take(folder: &Path, uid: &str) -> Result<Lease> {
        Lease::take(folder, uid, "small", QUICK, || false)
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join(FOLDER).join(FILE)
    }

    /// A lease that nobody renews, as a worker that was killed leaves it.
    fn abandon(folder: &Path, uid: &str) {
        let (job, holder) = ("small".to_owned(), "process 1 on node-7".to_owned());
        write(&path(folder), &Record { uid: uid.to_owned(), job, holder, renewals: 41 }).unwrap();
    }

    #[test]
    fn a_folder_is_one_jobs_as_long_as_its_worker_lives() {
        let folder = tempfile::tempdir().unwrap();
        let lease = take(folder.path(), "a").unwrap();
        let error = take(folder.path(), "b").unwrap_err();
        assert!(matches!(&error, Error::InUse { job, .. } if job == "small"), "{error}");
        assert!(error.is_users());
        drop(lease);
        assert!(!path(folder.path()).exists(), "given up");
        drop(take(folder.path(), "b").unwrap());
    }

    #[test]
    fn what_a_killed_worker_leaves_is_watched_by_other_jobs_and_taken_by_its_own_at_once() {
        let folder = tempfile::tempdir().unwrap();
        drop(take(folder.path(), "a").unwrap());
        abandon(folder.path(), "a");
        let began = Instant::now();
        drop(take(folder.path(), "a").unwrap());
        assert!(began.elapsed() < QUICK.expiry);
        abandon(folder.path(), "a");
        let began = Instant::now();
        let lease = take(folder.path(), "b").unwrap();
        assert!(began.elapsed() >= QUICK.expiry);
        // The one that was only stopped wakes: it leaves the new one's lease alone.
        let now = read(&path(folder.path())).unwrap().unwrap();
        assert_eq!(now.uid, "b");
        drop(lease);
        abandon(folder.path(), "a");
        let stopped = Lease::take(folder.path(), "b", "small", QUICK, || true).unwrap_err();
        assert!(matches!(stopped, Error::Interrupted), "{stopped}");
    }

    #[test]
    fn a_lease_that_was_taken_over_is_neither_renewed_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let lease = take(folder.path(), "a").unwrap();
        abandon(folder.path(), "b");
        thread::sleep(QUICK.renewal * 5);
        drop(lease);
        let left = read(&path(folder.path())).unwrap().unwrap();
        assert_eq!((left.uid.as_str(), left.renewals), ("b", 41));
    }
}
