//! Obeys commands, each as often as it comes, and holds the rank. What is decided is decided by [`AgentState`].

use std::time::Duration;

use palimpsest_api::FailureReason;
use palimpsest_coordinator::{AgentState, Deed, Order, Place, Standing};
use palimpsest_proto::control::{self, command, report};
use tokio::time::timeout;

use super::log::Log;
use super::memory::Memory;
use super::metrics::Metrics;
use super::ranks::{RankMessage, RankProcess};
use super::session::End;
use super::termination::{Termination, TerminationFile};
use super::translate::{internal_failure, report_of, report_of_crash, request_of};
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
    /// Whether the machine is taken away, so that the rank is draining and none is started.
    is_taken_away: bool,
    memory: Memory,
    termination: TerminationFile,
    log: Log,
    /// Threads of a rank where the run plan leaves that to the worker.
    threads: u32,
}

impl Supervisor {
    pub(super) fn new(name: &str, metrics: Metrics, termination: TerminationFile, threads: u32) -> Self {
        Self {
            name: name.to_owned(),
            job_uid: String::new(),
            state: AgentState::default(),
            plan: control::RunPlan::default(),
            process: None,
            is_leaving: false,
            metrics,
            has_started: false,
            is_taken_away: false,
            memory: Memory::default(),
            termination,
            log: Log::default(),
            threads,
        }
    }

    /// Whether it was told to leave, and has nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.is_leaving && self.process.is_none()
    }

    /// Whether the machine is taken away, and nothing is left to do.
    pub(super) fn is_gone(&self) -> bool {
        self.is_taken_away && self.process.is_none()
    }

    /// Whether a rank is there.
    pub(super) fn has_rank(&self) -> bool {
        self.process.is_some()
    }

    /// What is said first on a stream: who this is, and what it is doing.
    pub(super) fn hello(&self) -> control::Report {
        let greeting = self.state.greeting();
        let hello = report::Report::Hello(control::Hello {
            agent: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            local_ranks: LOCAL_RANKS,
            step: greeting.step,
        });
        control::Report { attempt: self.running(), report: Some(hello) }
    }

    /// What the coordinator may have missed, once it has heard the hello.
    pub(super) fn after_hello(&self) -> Vec<control::Report> {
        let greeting = self.state.greeting();
        let mut reports = Vec::new();
        if let Standing::Running { attempt } = greeting.standing {
            reports.extend(self.memory.retold().map(|retold| self.report(attempt, retold)));
        }
        // Said before the end, so that nobody takes that for a crash.
        reports.extend(self.is_taken_away.then(|| self.leaving()));
        reports.extend(greeting.end.map(|(attempt, end)| self.report(attempt, end)));
        reports
    }

    /// What is told when the machine is taken away.
    pub(super) fn leaving(&self) -> control::Report {
        control::Report { attempt: self.running(), report: Some(report::Report::Leaving(control::Leaving {})) }
    }

    /// The machine is taken away: the rank, if there is one, writes a checkpoint and ends, and none follows.
    pub(super) async fn take_away(&mut self) {
        tracing::warn!("asked to end: the rank writes a checkpoint and ends");
        self.is_taken_away = true;
        self.tell(&RankCommand::Drain).await;
    }

    /// Why the agent ended, now that it has; said where Kubernetes looks, too.
    pub(super) fn conclude(&self, end: End) -> Termination {
        let termination = self.termination(Some(end));
        self.termination.write(&termination);
        termination
    }

    fn termination(&self, end: Option<End>) -> Termination {
        let rank = self.state.greeting().end;
        Termination::new(end, rank.as_ref().map(|(attempt, end)| (*attempt, end)), &self.memory)
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
        let is_known = self.state.greeting().standing == Standing::Running { attempt: attempt.number };
        if self.is_taken_away && matches!(command, command::Command::RunPlan(_)) && !is_known {
            let why = "the worker's machine is taken away".to_owned();
            return vec![self.report(attempt.number, internal_failure(FailureReason::Leaving, why))];
        }
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
                let refusal = internal_failure(FailureReason::Unsupported, "this worker serves no models".to_owned());
                return vec![self.report(attempt.number, refusal)];
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
                let (attempt, end) =
                    self.state.rank_is_gone(internal_failure(FailureReason::WorkerFailed, format!("{error:#}")))?;
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
                return Some(self.report(attempt, internal_failure(FailureReason::Superseded, message)));
            }
            Deed::Tell { attempt, end } => return Some(self.report(attempt, end)),
        }
        None
    }

    async fn start(&mut self, attempt: u64, place: Option<Place>) -> anyhow::Result<()> {
        let Some(place) = place else {
            anyhow::bail!("the run plan of attempt {attempt} came before its join, or after its end");
        };
        let mut plan = self.plan.clone();
        if plan.threads == 0 {
            plan.threads = self.threads;
        }
        let request = request_of(plan, place, &self.job_uid, attempt)?;
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
            let message = process.next().await;
            if let Some(RankMessage::Event(event)) = &message {
                self.log.tell(event);
            }
            match message {
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
                    self.memory.keep(&report);
                    return self.report(attempt, report);
                }
                gone => {
                    let crash = match gone {
                        Some(RankMessage::Gone(status)) => report_of_crash(status),
                        _ => internal_failure(
                            FailureReason::RankCrashed,
                            "the rank's process was lost sight of".to_owned(),
                        ),
                    };
                    self.process = None;
                    // The next one begins anew.
                    self.log = Log::default();
                    if let Some((attempt, end)) = self.state.rank_is_gone(crash) {
                        self.memory.keep(&end);
                        self.termination.write(&self.termination(None));
                        return self.report(attempt, end);
                    }
                }
            }
        }
    }

    /// The attempt that it is at, if there is one.
    fn running(&self) -> Option<control::Attempt> {
        match self.state.greeting().standing {
            Standing::Running { attempt } => Some(self.attempt(attempt)),
            Standing::Idle => None,
        }
    }

    fn attempt(&self, number: u64) -> control::Attempt {
        control::Attempt { job_uid: self.job_uid.clone(), number }
    }

    fn report(&self, attempt: u64, report: report::Report) -> control::Report {
        control::Report { attempt: Some(self.attempt(attempt)), report: Some(report) }
    }
}
