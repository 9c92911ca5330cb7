//! The agent's process. It outlives this one: where the command line is killed, training goes on, and the next run finds
//! the agent and goes on with it.
//!
//! ```text
//! run folder ─┬─ .coordinator  where the command line listens; the agent reads it whenever it dials
//!             ├─ .worker       locked by the agent and its rank as long as they live; holds the agent's process id
//!             └─ worker.log    what they log; the command line shows what is added to it
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use palimpsest_store::write_atomically;
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::errors::UserError;
use crate::worker;

/// How long an agent may take to end its rank and itself.
const END_GRACE: Duration = Duration::from_secs(15);

/// For how long an agent goes on without a command line, before it has its rank write a checkpoint and ends.
const ORPHAN_SECONDS: u32 = 60;

/// How often its log and its life are looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// The agent of a run folder.
#[derive(Debug)]
pub(super) struct AgentProcess {
    files: Files,
    name: String,
    /// Where it serves /metrics, if it does.
    metrics: Option<SocketAddr>,
    /// Absent where a run before this one has started it.
    child: Option<Child>,
    log: Log,
}

#[derive(Debug)]
struct Files {
    address: PathBuf,
    lock: PathBuf,
    log: PathBuf,
}

/// What is heard of the process itself.
#[derive(Debug)]
pub(super) enum Sign {
    /// A line of its standard error, or its rank's.
    Line(String),
    /// It is gone, and its rank with it. How it ended is known where this process started it.
    Ended(Option<ExitStatus>),
}

impl AgentProcess {
    /// Finds the agent of a run folder, or starts one, and has it dial `coordinator`.
    pub(super) fn find_or_start(
        folder: &Path,
        coordinator: SocketAddr,
        name: &str,
        metrics: Option<SocketAddr>,
    ) -> Result<Self> {
        let files = Files {
            address: folder.join(".coordinator"),
            lock: folder.join(".worker"),
            log: folder.join("worker.log"),
        };
        write_atomically(&files.address, format!("http://{coordinator}\n").as_bytes())?;
        let log = Log::open(&files.log)?;
        let mut agent = Self { files, name: name.to_owned(), metrics, child: None, log };
        if agent.is_gone()? {
            agent.check_metrics()?;
            agent.start()?;
        }
        Ok(agent)
    }

    /// Refuses a place for /metrics that cannot be listened on, before the agent fails to.
    fn check_metrics(&self) -> Result<()> {
        let Some(address) = self.metrics else { return Ok(()) };
        match TcpListener::bind(address) {
            Ok(_) => Ok(()),
            Err(error) => {
                let sentence = format!(
                    "--metrics-port {}: cannot listen on {address} ({error}); choose another port or --metrics-address",
                    address.port()
                );
                Err(UserError::new(sentence).into())
            }
        }
    }

    /// Whether a run before this one has started it.
    pub(super) fn is_found(&self) -> bool {
        self.child.is_none()
    }

    /// Starts it, where none lives.
    ///
    /// It has a process group of its own, so that Ctrl-C reaches this process alone, which then has the rank write a
    /// checkpoint. The lock belongs to an open file that it and its rank inherit, and nobody else keeps.
    pub(super) fn start(&mut self) -> Result<()> {
        let binary = worker::binary()?;
        let mut lock = self.open_lock()?;
        lock.try_lock().with_context(|| format!("cannot lock {}", self.files.lock.display()))?;
        rustix::io::fcntl_setfd(&lock, FdFlags::empty())
            .with_context(|| format!("cannot hand {} over", self.files.lock.display()))?;
        let log = OpenOptions::new().create(true).append(true).open(&self.files.log);
        let log = log.with_context(|| format!("cannot open {}", self.files.log.display()))?;
        let child = Command::new(&binary)
            .args(["agent", "--name", &self.name, "--orphan-seconds", &ORPHAN_SECONDS.to_string()])
            .arg("--coordinator-file")
            .arg(&self.files.address)
            .args(self.metrics.iter().flat_map(|address| ["--metrics".to_owned(), address.to_string()]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let pid = child.id().unwrap_or_default();
        let written = lock.set_len(0).and_then(|()| writeln!(lock, "{pid}"));
        written.with_context(|| format!("cannot write {}", self.files.lock.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// What is heard next. It may be dropped at any time.
    pub(super) async fn next(&mut self) -> Result<Sign> {
        loop {
            if let Some(line) = self.log.next()? {
                return Ok(Sign::Line(line));
            }
            let status = match &mut self.child {
                Some(child) => child.try_wait().context("cannot wait for the worker")?,
                None => None,
            };
            if (self.child.is_none() || status.is_some()) && self.is_gone()? {
                return Ok(Sign::Ended(status));
            }
            sleep(INTERVAL).await;
        }
    }

    /// Waits until it is gone, now that it was told to leave; gives what it wrote meanwhile.
    pub(super) async fn end(mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let deadline = Instant::now() + END_GRACE;
        loop {
            tokio::select! {
                sign = self.next() => match sign? {
                    Sign::Line(line) => lines.push(line),
                    Sign::Ended(_) => return Ok(lines),
                },
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        tracing::warn!("the worker does not end and is killed");
        let mut pid = String::new();
        self.open_lock()?.read_to_string(&mut pid).context("cannot read the worker's process id")?;
        if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        Ok(lines)
    }

    /// Whether neither it nor a rank of its holds the lock.
    fn is_gone(&self) -> Result<bool> {
        Ok(self.open_lock()?.try_lock().is_ok())
    }

    fn open_lock(&self) -> Result<File> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.files.lock);
        file.with_context(|| format!("cannot open {}", self.files.lock.display()))
    }
}

/// A file that grows.
#[derive(Debug)]
struct Log {
    file: File,
    /// Read, but not a whole line yet.
    rest: Vec<u8>,
}

impl Log {
    /// From its present end on.
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path);
        let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
        file.seek(SeekFrom::End(0)).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { file, rest: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<String>> {
        self.file.read_to_end(&mut self.rest).context("cannot read the worker's log")?;
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.rest.drain(..=end).collect();
        Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_line_by_line_from_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.log");
        std::fs::write(&path, "before\n").unwrap();
        let mut log = Log::open(&path).unwrap();
        assert_eq!(log.next().unwrap(), None);
        let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
        writer.write_all(b"one\ntwo\nhal").unwrap();
        assert_eq!(log.next().unwrap().as_deref(), Some("one"));
        assert_eq!(log.next().unwrap().as_deref(), Some("two"));
        assert_eq!(log.next().unwrap(), None);
        writer.write_all(b"f\n").unwrap();
        assert_eq!(log.next().unwrap().as_deref(), Some("half"));
    }
}
