//! Drives the coordinator: tells it what happens and what time it is, and carries out what it says.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palimpsest_control::{Attached, Commands, Heard, Loopback, Session, serve};
use palimpsest_coordinator::{AgentId, Config, Observation, State};
use palimpsest_proto::control::{self, command};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::agent::{AgentProcess, Sign};
use super::display::Display;

/// How long a worker may take to answer on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The only agent's name.
const AGENT: &str = "worker-0";

/// How a run came to its end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) state: State,
    /// The newest step that was told of.
    pub(super) step: u64,
    /// The step of the newest checkpoint that was told of.
    pub(super) checkpoint: Option<u64>,
}

/// Runs the job that `plan` hands to the ranks, until it ends. An agent that a run before this one has left in the folder
/// is gone on with.
pub(super) async fn drive(
    folder: &Path,
    config: Config,
    job_uid: &str,
    plan: control::RunPlan,
    metrics: Option<SocketAddr>,
    display: &mut Display,
) -> Result<End> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen on 127.0.0.1")?;
    let address = listener.local_addr().context("cannot listen on 127.0.0.1")?;
    let mut heard = serve(listener, None, Loopback)?;
    let mut agent = AgentProcess::find_or_start(folder, address, AGENT, metrics)?;
    if agent.is_found() {
        display.say("the worker of a run that was killed still lives; going on with it");
        if plan.profile_steps > 0 {
            display.warn("--profile: it was not asked to record steps, and cannot be now; stop the run with Ctrl-C and run again");
        }
        if let Some(metrics) = metrics.filter(|metrics| TcpStream::connect_timeout(metrics, CONNECT_TIMEOUT).is_err()) {
            display.warn(&format!(
                "--metrics-port {}: it does not serve {metrics}, and cannot now; stop the run with Ctrl-C and run again",
                metrics.port()
            ));
        }
    }
    let session = Session::new(config, job_uid, plan, Duration::ZERO);
    let mut run = Run { began: Instant::now(), session, others: Vec::new() };
    let mut has_attached = false;
    while !run.session.coordinator().state().is_end() {
        let before = run.session.coordinator().state().clone();
        let crashed_before = run.session.coordinator().crash_of().map(|(attempt, _)| attempt);
        let next_deadline = run.session.coordinator().next_deadline();
        // What was heard comes before the time: this process may have stood still.
        let observation = tokio::select! {
            biased;
            Some(heard) = heard.recv() => {
                has_attached |= matches!(heard, Heard::Attached(_));
                run.take_in(heard, display)
            }
            sign = agent.next() => match sign? {
                Sign::Line(line) => {
                    display.log(&line);
                    None
                }
                Sign::Ended(Some(status)) if !has_attached => bail!("the worker ended before it was ready ({status})"),
                Sign::Ended(status) => {
                    let how = status.map_or(String::new(), |status| format!(" ({status})"));
                    display.warn(&format!("the worker ended{how} and is started again"));
                    has_attached = false;
                    agent.start()?;
                    Some(Observation::Lost { agent: AgentId(AGENT.to_owned()) })
                }
            },
            () = signals.next() => Some(match run.session.coordinator().state() {
                State::Draining { .. } | State::Aborting { .. } => Observation::AbortRequested,
                _ => Observation::StopRequested,
            }),
            () = sleep_until(run.began, next_deadline) => Some(Observation::TimePassed),
        };
        let Some(observation) = observation else { continue };
        run.session.observe(run.began.elapsed(), observation);
        if let Some((attempt, message)) = run.session.coordinator().crash_of()
            && Some(attempt) != crashed_before
            && !run.session.coordinator().state().is_end()
        {
            display.warn(&format!("{message}; going on from the newest checkpoint"));
        }
        if *run.session.coordinator().state() != before {
            display.show_state(run.session.coordinator().state(), run.began.elapsed());
        }
    }
    run.session.dismiss();
    for line in agent.end().await? {
        display.log(&line);
    }
    let coordinator = run.session.coordinator();
    Ok(End { state: coordinator.state().clone(), step: coordinator.step(), checkpoint: coordinator.checkpoint() })
}

/// A job under way on this machine.
struct Run {
    began: Instant,
    session: Session,
    /// To agents of other jobs, which are about to end.
    others: Vec<Commands>,
}

impl Run {
    /// Shows what an agent told and says what it means to the coordinator, if anything.
    fn take_in(&mut self, heard: Heard, display: &mut Display) -> Option<Observation> {
        match heard {
            Heard::Attached(attached) => match self.session.attach(attached) {
                Ok(observation) => Some(observation),
                Err(stranger) => {
                    // Another job was left here. It is to be found where it was left, and this one waits until it is.
                    display.warn("the worker of another job still lives here; it writes a checkpoint and ends");
                    let Attached { attempt, commands, .. } = *stranger;
                    for last in [command::Command::Drain(control::Drain {}), command::Command::Leave(control::Leave {})]
                    {
                        commands.send(control::Command { attempt: attempt.clone(), command: Some(last) });
                    }
                    self.others.push(commands);
                    None
                }
            },
            Heard::Reported(reported) => {
                let observation = self.session.report(&reported);
                let attempt = self.session.coordinator().attempt();
                if reported.attempt.job_uid == self.session.job_uid() && reported.attempt.number == attempt {
                    display.show_report(&reported.report);
                }
                observation
            }
            Heard::Detached { link } => {
                // On one machine nothing cuts off an agent that lives: it dials again, or its silence counts.
                self.session.detach(link);
                None
            }
        }
    }
}

async fn sleep_until(began: Instant, deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until((began + deadline).into()).await,
        None => std::future::pending().await,
    }
}

/// The signals that ask a run to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
