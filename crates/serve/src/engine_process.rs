//! Keeps an engine's process running: starts it, waits until it answers, and starts it anew when it dies.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::link::{Connected, EngineLink, EngineState, connect};

/// How often an engine that is starting is asked whether it is ready. It is part of every cold start.
const POLL: Duration = Duration::from_millis(10);

/// The exit code of a process that its user has to mend something for.
const USERS_MISTAKE: i32 = 2;

/// When an engine's process is started anew, and for how long it is waited for.
#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy {
    /// How often it may die without ever having been ready, before it is given up.
    pub attempts: u32,
    /// How long to wait before the first restart; each that fails again doubles it.
    pub backoff: Duration,
    /// How long to wait at most.
    pub longest_backoff: Duration,
    /// How long it may take to be ready.
    pub startup_timeout: Duration,
    /// How long it may take to end when it is asked to; then it is killed.
    pub stop_timeout: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(200),
            longest_backoff: Duration::from_secs(30),
            startup_timeout: Duration::from_secs(1800),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// An engine's process that is kept running. Dropped, it is killed.
#[derive(Debug)]
pub struct EngineProcess {
    link: EngineLink,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl EngineProcess {
    /// Starts `command` with `--socket PATH` after its arguments, and starts it anew whenever it dies. The process is to serve
    /// [`serve_engine`](crate::serve_engine) there, and to end when its standard input closes. Call it within a tokio runtime.
    pub fn start(mut command: Command, policy: RestartPolicy) -> Result<Self> {
        // Nobody else may open a folder of ours.
        let folder = TempDir::with_prefix("palimpsest-engine-").map_err(Error::read(std::env::temp_dir()))?;
        let socket = folder.path().join("engine.sock");
        command.arg("--socket").arg(&socket).stdin(Stdio::piped()).kill_on_drop(true);
        // An interrupt from a terminal is the server's: it ends the engine once its requests have ended.
        command.process_group(0);
        let (state, receiver) = watch::channel(EngineState::Starting);
        let (stop, stopped) = watch::channel(false);
        let starts = Arc::new(AtomicU64::new(0));
        let link = EngineLink::new(receiver, Arc::clone(&starts));
        let keeper = Keeper { command, policy, _folder: folder, socket, state, starts, stopped };
        let task = tokio::spawn(keeper.keep());
        Ok(Self { link, stop, task })
    }

    /// The way to it.
    pub fn link(&self) -> EngineLink {
        self.link.clone()
    }

    /// Ends it: asks it to, and kills it where it does not.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    command: Command,
    policy: RestartPolicy,
    /// Holds the socket; removed in the end.
    _folder: TempDir,
    socket: PathBuf,
    state: watch::Sender<EngineState>,
    starts: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
}

/// How one process ended.
enum End {
    /// We asked it to.
    Asked,
    /// It died, in words, and how long it had been ready.
    Died { how: String, ready: Option<Duration> },
    /// It has said, by its exit code, that its user has to mend something: another try would end as this one.
    Refused,
}

impl Keeper {
    async fn keep(mut self) {
        let mut backoff = self.policy.backoff;
        let mut unready = 0;
        let mut was_ever_ready = false;
        loop {
            let _ = std::fs::remove_file(&self.socket);
            let child = match self.command.spawn() {
                Ok(child) => child,
                Err(error) => return self.give_up(Error::Spawn(error).to_string()),
            };
            self.starts.fetch_add(1, Ordering::Relaxed);
            let (how, ready) = match self.watch(child).await {
                End::Asked => return self.give_up("the engine has been stopped".to_owned()),
                // One that was ready before may find less memory than it did, for a while.
                End::Refused if was_ever_ready => ("with what its user has to mend".to_owned(), None),
                End::Refused => {
                    self.state.send_replace(EngineState::Refused);
                    return;
                }
                End::Died { how, ready } => (how, ready),
            };
            was_ever_ready |= ready.is_some();
            if !was_ever_ready {
                unready += 1;
                if unready >= self.policy.attempts {
                    return self.give_up(format!(
                        "the engine's process died {unready} times before it was ready, the last time {how}; \
                         what it wrote to standard error says why"
                    ));
                }
            }
            self.state.send_replace(if was_ever_ready { EngineState::Restarting } else { EngineState::Starting });
            if ready.is_some_and(|time| time > self.policy.longest_backoff) {
                backoff = self.policy.backoff;
            }
            tracing::error!(how, after = ?backoff, "the engine's process died and is started anew");
            let is_stopped = tokio::select! {
                () = tokio::time::sleep(backoff) => false,
                () = asked(&mut self.stopped) => true,
            };
            if is_stopped {
                return self.give_up("the engine has been stopped".to_owned());
            }
            backoff = (backoff * 2).min(self.policy.longest_backoff);
        }
    }

    fn give_up(&self, why: String) {
        self.state.send_replace(EngineState::Gone(why));
    }

    /// Sees a process through from its start to its end.
    async fn watch(&mut self, mut child: Child) -> End {
        // Waiting for a child closes its standard input, by which it knows that we are there.
        let stdin = child.stdin.take();
        let mut stopped = self.stopped.clone();
        let asked = asked(&mut stopped);
        let began = Instant::now();
        tokio::pin!(asked);
        let connected = tokio::select! {
            status = child.wait() => return died(status, None),
            () = &mut asked => {
                self.end(child, stdin).await;
                return End::Asked;
            }
            connected = tokio::time::timeout(self.policy.startup_timeout, until_ready(&self.socket)) => connected,
        };
        let Ok(connected) = connected else {
            self.end(child, stdin).await;
            let how = format!("by us, because it was not ready after {:?}", self.policy.startup_timeout);
            return End::Died { how, ready: None };
        };
        tracing::debug!(seconds = began.elapsed().as_secs_f64(), "the engine is ready");
        let ready = Instant::now();
        self.state.send_replace(EngineState::Ready(Arc::new(connected)));
        tokio::select! {
            status = child.wait() => died(status, Some(ready.elapsed())),
            () = &mut asked => {
                self.end(child, stdin).await;
                End::Asked
            }
        }
    }

    /// Asks a process to end, and kills it where it does not.
    async fn end(&self, mut child: Child, stdin: Option<ChildStdin>) {
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        drop(stdin);
        if tokio::time::timeout(self.policy.stop_timeout, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

/// Waits until the process is to end. Where nobody can say so any more, it is.
async fn asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn until_ready(socket: &Path) -> Connected {
    loop {
        if socket.exists()
            && let Ok(connected) = connect(socket).await
        {
            return connected;
        }
        tokio::time::sleep(POLL).await;
    }
}

fn died(status: std::io::Result<ExitStatus>, ready: Option<Duration>) -> End {
    if ready.is_none() && status.as_ref().is_ok_and(|status| status.code() == Some(USERS_MISTAKE)) {
        return End::Refused;
    }
    let how = status.map_or_else(|error| error.to_string(), |status| format!("with {status}"));
    End::Died { how, ready }
}
