//! A rank's process.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::protocol::{RankCommand, RankEvent};

/// How long a rank may take to end after it said that it does.
const END_GRACE: Duration = Duration::from_secs(5);

/// How long a rank may take to end after it was told to stop at once. Files are written whole or not at all: nothing is
/// lost by killing it.
const STOP_GRACE: Duration = Duration::from_millis(300);

/// How often a thread of the OpenMP runtime looks for work before it sleeps. Its own default, hundreds of thousands of
/// times, makes training several times slower wherever anything else runs on the same cores.
const OPENMP_SPINS: (&str, &str) = ("GOMP_SPINCOUNT", "2000");

/// What is heard of a rank.
#[derive(Debug)]
pub(super) enum RankMessage {
    /// It said something.
    Event(RankEvent),
    /// Its process is gone.
    Gone(ExitStatus),
}

/// A rank's process under way. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct RankProcess {
    /// Its end tells the rank that nobody holds it any more.
    stdin: Option<ChildStdin>,
    messages: mpsc::Receiver<RankMessage>,
    end: Option<oneshot::Sender<()>>,
}

impl RankProcess {
    /// Starts this binary again as a rank.
    pub(super) fn start() -> Result<Self> {
        let binary = std::env::current_exe().context("cannot find the worker's own binary")?;
        let mut command = Command::new(&binary);
        let (name, spins) = OPENMP_SPINS;
        if std::env::var_os(name).is_none() && std::env::var_os("OMP_WAIT_POLICY").is_none() {
            command.env(name, spins);
        }
        let mut child = command
            .arg("rank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let stdin = child.stdin.take();
        let (sender, messages) = mpsc::channel(64);
        let (end, told) = oneshot::channel();
        tokio::spawn(follow(child, sender, told));
        Ok(Self { stdin, messages, end: Some(end) })
    }

    /// Hands a command over. A rank that cannot take it any more is about to be heard of as gone.
    pub(super) async fn send(&mut self, command: &RankCommand) {
        let Some(stdin) = &mut self.stdin else { return };
        let Ok(mut line) = serde_json::to_vec(command) else { return };
        line.push(b'\n');
        if let Err(error) = stdin.write_all(&line).await {
            tracing::debug!(%error, "the rank takes no more commands");
        }
    }

    /// Kills it if it has not ended in a while.
    pub(super) fn end(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }

    /// What is heard next; `None` after [`RankMessage::Gone`].
    pub(super) async fn next(&mut self) -> Option<RankMessage> {
        self.messages.recv().await
    }
}

/// Reads a rank's events until its process is gone. Once told so, or once the rank has closed its standard output, it has
/// a few seconds to end by itself.
async fn follow(mut child: Child, messages: mpsc::Sender<RankMessage>, told: oneshot::Receiver<()>) {
    let read_all = async {
        let Some(stdout) = child.stdout.take() else { return };
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(event) => {
                    if messages.send(RankMessage::Event(event)).await.is_err() {
                        return;
                    }
                }
                Err(_) => tracing::warn!(line, "the rank wrote something to standard output that is no event"),
            }
        }
    };
    let told_to_end = async {
        // An error means that nobody holds the rank any more: it has seen the end of its standard input.
        let _ = told.await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    let grace = tokio::select! {
        () = read_all => END_GRACE,
        () = told_to_end => Duration::ZERO,
    };
    let status = match timeout(grace, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    match status {
        Ok(status) => {
            let _ = messages.send(RankMessage::Gone(status)).await;
        }
        Err(error) => tracing::error!(%error, "cannot wait for the rank"),
    }
}
