//! Obeys commands, each as often as it comes, and holds the rank. What is decided is decided by [`AgentState`].

use std::time::Duration;

use palimpsest_coordinator::{AgentState, Deed, Order, Place, Standing};
use palimpsest_proto::control::{self, command, failure, report};
use tokio::time::timeout;

use super::metrics::Metrics;
use super::ranks::{RankMessage, RankProcess};
use super::translate::{report_of, report_of_crash, request_of};
use crate::protocol::{RankCommand, RankEvent, RankPhase};

/// An agent's devices: a CPU is one.
const LOCAL_RANKS: u32 = 1;

/// How long the last checkpoint of an agent may take that nobody coordinates any more.
const DRAIN_GRACE: Duration = Duration::from_secs(120);

/// The agent's side of a job.
#[derive(Debug)]
pub(super) struct Supervisor {
    name: String,
    /// The only job that commands are obeyed of: the first one heard of.
    job_uid: String,
    state: AgentState<report::Report>,
    /// The newest run plan.
    plan: control::RunPlan,
    process: Option<RankProcess>,
    is_leaving: bool,
    metrics: Metrics,
    /// Whether there has been a rank.
    has_started: bool,
}

impl Supervisor {
    pub(super) fn new(name: &str, metrics: Metrics) -> Self {
        Self {
            name: name.to_owned(),
            job_uid: String::new(),
            state: AgentState::default(),
            plan: control::RunPlan::default(),
            process: None,
            is_leaving: false,
            metrics,
            has_started: false,
        }
    }

    /// Whether it was told to leave, and has nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.is_leaving && self.process.is_none()
    }

    /// What is said first on a stream: who this is, what it is doing, and what the coordinator may have missed.
    pub(super) fn hello(&self) -> Vec<control::Report> {
        let greeting = self.state.greeting();
        let attempt = match greeting.standing {
            Standing::Idle => None,
            Standing::Running { attempt } => Some(self.attempt(attempt)),
        };
        let hello = report::Report::Hello(control::Hello {
            agent: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            local_ranks: LOCAL_RANKS,
            step: greeting.step,
        });
        let end = greeting.end.map(|(attempt, end)| self.report(attempt, end));
        [control::Report { attempt, report: Some(hello) }].into_iter().chain(end).collect()
    }

    /// Does what a command says; gives what is to be reported at once.
    pub(super) async fn obey(&mut self, command: control::Command) -> Vec<control::Report> {
        let attempt = command.attempt.unwrap_or_default();
        let is_of_another_job = !self.job_uid.is_empty() && attempt.job_uid != self.job_uid;
        let Some(command) = command.command else { return Vec::new() };
        if is_of_another_job && !matches!(command, command::Command::Leave(_)) {
            tracing::warn!(job = attempt.job_uid, own = self.job_uid, "a command of another job is ignored");
            return Vec::new();
        }
        self.job_uid = attempt.job_uid;
        let order = match command {
            command::Command::Join(control::Join { first_rank, local_ranks, world, .. }) => {
                Order::Join { first_rank, local_ranks, world }
            }
            command::Command::RunPlan(plan) => {
                self.plan = plan;
                Order::RunPlan
            }
            command::Command::Checkpoint(_) => Order::Checkpoint,
            command::Command::Drain(_) => Order::Drain,
            command::Command::Abort(_) => Order::Abort,
            command::Command::Leave(_) => {
                self.is_leaving = true;
                return Vec::new();
            }
            command::Command::LoadModel(_) => {
                return vec![self.report(attempt.number, failure("this worker serves no models".to_owned()))];
            }
        };
        let mut reports = Vec::new();
        for deed in self.state.obey(attempt.number, order) {
            reports.extend(self.carry_out(deed).await);
        }
        reports
    }

    async fn carry_out(&mut self, deed: Deed<report::Report>) -> Option<control::Report> {
        match deed {
            Deed::Start { attempt, place } => {
                let error = self.start(attempt, place).await.err()?;
                let (attempt, end) = self.state.rank_is_gone(failure(format!("{error:#}")))?;
                return Some(self.report(attempt, end));
            }
            Deed::Checkpoint => self.tell(&RankCommand::Checkpoint).await,
            Deed::Drain => self.tell(&RankCommand::Drain).await,
            Deed::Stop => self.stop().await,
            Deed::StopAndWait => self.stop_and_wait().await,
            Deed::Refuse { attempt, newest } => {
                let message =
                    format!("attempt {attempt} is older than attempt {newest}, which this worker was told of");
                tracing::warn!(message);
                return Some(self.report(attempt, failure(message)));
            }
            Deed::Tell { attempt, end } => return Some(self.report(attempt, end)),
        }
        None
    }

    async fn start(&mut self, attempt: u64, place: Option<Place>) -> anyhow::Result<()> {
        let Some(place) = place else {
            anyhow::bail!("the run plan of attempt {attempt} came before its join, or after its end");
        };
        let request = request_of(self.plan.clone(), place, attempt)?;
        let mut process = RankProcess::start()?;
        process.send(&RankCommand::Run(Box::new(request))).await;
        self.process = Some(process);
        if std::mem::replace(&mut self.has_started, true) {
            self.metrics.count_restart();
        }
        Ok(())
    }

    async fn tell(&mut self, command: &RankCommand) {
        if let Some(process) = &mut self.process {
            process.send(command).await;
        }
    }

    async fn stop(&mut self) {
        self.tell(&RankCommand::Abort).await;
        if let Some(process) = &mut self.process {
            process.end();
        }
    }

    /// Ends the rank, if there is one, and waits until it is gone.
    pub(super) async fn stop_and_wait(&mut self) {
        self.stop().await;
        if let Some(mut process) = self.process.take() {
            while process.next().await.is_some() {}
        }
    }

    /// Has the rank, if there is one, write a checkpoint and end, and waits until it is gone.
    pub(super) async fn drain_and_wait(&mut self) {
        self.tell(&RankCommand::Drain).await;
        let ended = timeout(DRAIN_GRACE, async {
            while self.process.is_some() {
                self.next_report().await;
            }
        });
        if ended.await.is_err() {
            tracing::warn!("the last checkpoint takes too long");
        }
        self.stop_and_wait().await;
    }

    /// What the rank leads to next; never ready without a rank. It may be dropped at any time.
    pub(super) async fn next_report(&mut self) -> control::Report {
        loop {
            let Some(process) = &mut self.process else { std::future::pending().await };
            let Standing::Running { attempt } = self.state.greeting().standing else { std::future::pending().await };
            match process.next().await {
                Some(RankMessage::Event(event @ (RankEvent::Finished { .. } | RankEvent::Failed { .. }))) => {
                    self.state.rank_says(report_of(event));
                }
                Some(RankMessage::Event(event)) => {
                    self.metrics.observe(&event);
                    match &event {
                        RankEvent::Progress(progress) => self.state.rank_took(progress.step),
                        RankEvent::Phase { phase, .. } => self.state.rank_entered(*phase == RankPhase::Training),
                        _ => {}
                    }
                    let report = match report_of(event) {
                        report::Report::Alive(_) => {
                            report::Report::Alive(control::Alive { takes_steps: self.state.takes_steps() })
                        }
                        report => report,
                    };
                    return self.report(attempt, report);
                }
                gone => {
                    let crash = match gone {
                        Some(RankMessage::Gone(status)) => report_of_crash(status),
                        _ => failure("the rank's process was lost sight of".to_owned()),
                    };
                    self.process = None;
                    if let Some((attempt, end)) = self.state.rank_is_gone(crash) {
                        return self.report(attempt, end);
                    }
                }
            }
        }
    }

    fn attempt(&self, number: u64) -> control::Attempt {
        control::Attempt { job_uid: self.job_uid.clone(), number }
    }

    fn report(&self, attempt: u64, report: report::Report) -> control::Report {
        control::Report { attempt: Some(self.attempt(attempt)), report: Some(report) }
    }
}

fn failure(message: String) -> report::Report {
    report::Report::Failure(control::Failure { cause: failure::Cause::Internal.into(), message })
}
