//! Drives the coordinator: tells it what happens and what time it is, and carries out what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palimpsest_coordinator::{
    AgentId, Cause, Command, Config, Coordinator, Observation, Order, Outcome, Report, Standing, State,
};
use palimpsest_proto::control::{self, command, failure, finished, report};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tonic::Status;

use super::agent::{AgentProcess, Sign};
use super::display::Display;
use super::server::{self, Heard};

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
    let (address, mut heard) = server::start().await?;
    let mut agent = AgentProcess::find_or_start(folder, address, AGENT, metrics)?;
    if agent.is_found() {
        display.say("the worker of a run that was killed still lives; going on with it");
    }
    let mut run = Run::new(config, job_uid, plan);
    let mut has_attached = false;
    while !run.coordinator.state().is_end() {
        let before = run.coordinator.state().clone();
        let crashed_before = run.coordinator.crash_of().map(|(attempt, _)| attempt);
        let next_deadline = run.coordinator.next_deadline();
        // What was heard comes before the time: this process may have stood still.
        let observation = tokio::select! {
            biased;
            Some(heard) = heard.recv() => {
                has_attached |= matches!(heard, Heard::Attached { .. });
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
                    run.links.clear();
                    Some(Observation::Lost { agent: AgentId(AGENT.to_owned()) })
                }
            },
            () = signals.next() => Some(match run.coordinator.state() {
                State::Draining { .. } | State::Aborting { .. } => Observation::AbortRequested,
                _ => Observation::StopRequested,
            }),
            () = sleep_until(run.began, next_deadline) => Some(Observation::TimePassed),
        };
        let Some(observation) = observation else { continue };
        for command in run.coordinator.observe(run.began.elapsed(), observation) {
            run.send(command).await;
        }
        if let Some((attempt, message)) = run.coordinator.crash_of()
            && Some(attempt) != crashed_before
            && !run.coordinator.state().is_end()
        {
            display.warn(&format!("{message}; going on from the newest checkpoint"));
        }
        if *run.coordinator.state() != before {
            display.show_state(run.coordinator.state(), run.began.elapsed());
        }
    }
    run.dismiss().await;
    for line in agent.end().await? {
        display.log(&line);
    }
    let coordinator = &run.coordinator;
    Ok(End { state: coordinator.state().clone(), step: coordinator.step(), checkpoint: coordinator.checkpoint() })
}

struct Run {
    began: Instant,
    coordinator: Coordinator,
    job_uid: String,
    plan: control::RunPlan,
    links: BTreeMap<AgentId, mpsc::Sender<Result<control::Command, Status>>>,
    /// To agents that are about to end.
    others: Vec<mpsc::Sender<Result<control::Command, Status>>>,
}

impl Run {
    fn new(config: Config, job_uid: &str, plan: control::RunPlan) -> Self {
        Self {
            began: Instant::now(),
            coordinator: Coordinator::new(config, Duration::ZERO),
            job_uid: job_uid.to_owned(),
            plan,
            links: BTreeMap::new(),
            others: Vec::new(),
        }
    }

    /// Shows what an agent told and says what it means to the coordinator, if anything.
    fn take_in(&mut self, heard: Heard, display: &mut Display) -> Option<Observation> {
        match heard {
            Heard::Attached { attempt: Some(attempt), commands, .. } if attempt.job_uid != self.job_uid => {
                // Another job was left here. It is to be found where it was left, and this one waits until it is.
                display.warn("the worker of another job still lives here; it writes a checkpoint and ends");
                for last in [command::Command::Drain(control::Drain {}), command::Command::Leave(control::Leave {})] {
                    let command = control::Command { attempt: Some(attempt.clone()), command: Some(last) };
                    let _ = commands.try_send(Ok(command));
                }
                self.others.push(commands);
                None
            }
            Heard::Attached { hello, attempt, commands } => {
                let agent = AgentId(hello.agent);
                self.links.insert(agent.clone(), commands);
                let standing = attempt.map_or(Standing::Idle, |attempt| Standing::Running { attempt: attempt.number });
                Some(Observation::Attached { agent, local_ranks: hello.local_ranks, standing })
            }
            Heard::Reported { agent, attempt, report } => {
                if attempt.job_uid != self.job_uid {
                    return None;
                }
                if attempt.number == self.coordinator.attempt() {
                    display.show_report(&report);
                }
                let report = observed(report)?;
                Some(Observation::Reported { agent: AgentId(agent), attempt: attempt.number, report })
            }
        }
    }

    /// Tells all agents that nobody needs them any more.
    async fn dismiss(&self) {
        let attempt = control::Attempt { job_uid: self.job_uid.clone(), number: self.coordinator.attempt() };
        for link in self.links.values() {
            let leave = command::Command::Leave(control::Leave {});
            let _ = link.send(Ok(control::Command { attempt: Some(attempt.clone()), command: Some(leave) })).await;
        }
    }

    /// Sends a command. One that cannot be sent was for an agent that is about to be heard of as gone.
    async fn send(&self, command: Command) {
        let attempt = control::Attempt { job_uid: self.job_uid.clone(), number: command.attempt };
        let order = match command.order {
            Order::Join { first_rank, local_ranks, world } => {
                command::Command::Join(control::Join { first_rank, local_ranks, world, rendezvous: String::new() })
            }
            Order::RunPlan => command::Command::RunPlan(self.plan.clone()),
            Order::Checkpoint => command::Command::Checkpoint(control::Checkpoint {}),
            Order::Drain => command::Command::Drain(control::Drain {}),
            Order::Abort => command::Command::Abort(control::Abort {}),
        };
        let Some(link) = self.links.get(&command.agent) else { return };
        let _ = link.send(Ok(control::Command { attempt: Some(attempt), command: Some(order) })).await;
    }
}

/// What of a report matters to the coordinator.
fn observed(report: report::Report) -> Option<Report> {
    Some(match report {
        report::Report::Alive(alive) => Report::Alive { takes_steps: alive.takes_steps },
        report::Report::Progress(progress) => Report::Progress { step: progress.step },
        report::Report::CheckpointCommitted(committed) => Report::CheckpointCommitted { step: committed.step },
        report::Report::Finished(finished) => Report::Finished {
            outcome: match finished.outcome() {
                finished::Outcome::Succeeded => Outcome::Succeeded,
                finished::Outcome::AlreadyFinished => Outcome::AlreadyFinished,
                finished::Outcome::Stopped | finished::Outcome::Unspecified => Outcome::Stopped,
            },
        },
        report::Report::Failure(failure) => Report::Failed {
            cause: match failure.cause() {
                failure::Cause::User => Cause::User,
                failure::Cause::Internal | failure::Cause::Unspecified => Cause::Internal,
            },
            message: failure.message,
        },
        _ => return None,
    })
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
