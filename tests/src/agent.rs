//! A worker's agent as a pod has it: with a token, an authority and a termination log that are files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::processes::{children, signal};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// What is mounted into an agent's pod.
#[derive(Debug)]
pub struct AgentFolder {
    folder: PathBuf,
}

impl AgentFolder {
    /// Within `parent`, without token and authority yet.
    pub fn new(parent: &Path, name: &str) -> Self {
        let folder = parent.join(name);
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{error}"));
        Self { folder }
    }

    /// Writes the authority's file.
    pub fn write_authority(&self, pem: &str) {
        self.write("ca.pem", pem);
    }

    /// Writes the token's file.
    pub fn write_token(&self, token: &str) {
        self.write("token", &format!("{token}\n"));
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Starts an agent that dials `url`; `before` runs it, as `taskset -c 0` does.
    pub fn start(&self, before: &[&str], url: &str, name: &str, more: &[&str]) -> Agent {
        let binary = crate::built("palimpsest-worker");
        let log = File::options().create(true).append(true).open(self.folder.join("log"));
        let mut words = before.iter().map(PathBuf::from).chain([binary]);
        let mut command = Command::new(words.next().unwrap_or_default());
        let path = |name: &str| self.folder.join(name);
        command.args(words).args(["agent", "--coordinator", url, "--name", name]);
        command.arg("--ca").arg(path("ca.pem")).arg("--token-file").arg(path("token"));
        command.arg("--termination-file").arg(path("termination")).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap_or_else(|error| panic!("{error}")));
        let child = command.spawn().unwrap_or_else(|error| panic!("the worker: {error}"));
        Agent { child, folder: self.folder.clone() }
    }
}

/// An agent's process; killed when dropped, and its rank with it.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    folder: PathBuf,
}

impl Agent {
    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Waits until its log has such a line; says how many.
    pub fn logs(&self, part: &str) -> usize {
        let began = Instant::now();
        loop {
            let count = self.log().lines().filter(|line| line.contains(part)).count();
            if count > 0 {
                return count;
            }
            assert!(began.elapsed() < LONG, "\"{part}\" is not logged: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its termination message.
    pub fn termination(&self) -> serde_json::Value {
        crate::read_json(&self.folder.join("termination"))
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Sends its rank a signal.
    pub fn signal_rank(&self, name: &str) {
        let rank = self.rank().unwrap_or_else(|| panic!("there is no rank"));
        signal(rank, name);
    }

    /// Its rank's process.
    pub fn rank(&self) -> Option<u32> {
        children(self.child.id()).first().copied()
    }

    /// Waits for its end; says how long that took.
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return (status, began.elapsed()),
                Ok(None) => assert!(began.elapsed() < LONG, "it does not end: {}", self.log()),
                Err(error) => panic!("{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Its rank ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
