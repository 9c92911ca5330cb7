//! The agent's process.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::timeout;

use crate::worker;

/// How long an agent may take to end its rank and itself.
const END_GRACE: Duration = Duration::from_secs(15);

/// The agent's process; it ends when its standard input does.
#[derive(Debug)]
pub(super) struct AgentProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: Option<Lines<BufReader<ChildStderr>>>,
}

/// What is heard of the process itself.
#[derive(Debug)]
pub(super) enum Sign {
    /// A line of its standard error, or its rank's.
    Line(String),
    /// It is gone.
    Ended(ExitStatus),
}

impl AgentProcess {
    /// Starts an agent that dials `coordinator`.
    ///
    /// It has a process group of its own, so that Ctrl-C reaches this process alone, which then has the rank write a
    /// checkpoint.
    pub(super) fn start(coordinator: SocketAddr, name: &str) -> Result<Self> {
        let binary = worker::binary()?;
        let mut child = Command::new(&binary)
            .args(["agent", "--until-stdin-closes", "--name", name])
            .arg("--coordinator")
            .arg(format!("http://{coordinator}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let stdin = child.stdin.take();
        let stderr = child.stderr.take().map(|stderr| BufReader::new(stderr).lines());
        Ok(Self { child, stdin, stderr })
    }

    /// What is heard next. It may be dropped at any time.
    pub(super) async fn next(&mut self) -> Result<Sign> {
        if let Some(stderr) = &mut self.stderr {
            if let Ok(Some(line)) = stderr.next_line().await {
                return Ok(Sign::Line(line));
            }
            self.stderr = None;
        }
        let status = self.child.wait().await.context("cannot wait for the worker")?;
        Ok(Sign::Ended(status))
    }

    /// Has it end, with its rank; gives what it wrote meanwhile.
    pub(super) async fn end(mut self) -> Vec<String> {
        self.stdin = None;
        let mut lines = Vec::new();
        let ended = timeout(END_GRACE, async {
            while let Ok(Sign::Line(line)) = self.next().await {
                lines.push(line);
            }
        });
        if ended.await.is_err() {
            tracing::warn!("the worker does not end and is killed");
            let _ = self.child.kill().await;
        }
        lines
    }
}
