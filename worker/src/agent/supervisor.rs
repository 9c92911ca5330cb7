//! Obeys commands, each as often as it comes, and holds the rank.

use palimpsest_proto::control::{self, command, failure, report};

use super::ranks::{RankMessage, RankProcess};
use super::translate::{report_of, report_of_crash, request_of};
use crate::protocol::{RankCommand, RankEvent};

/// An agent's devices: a CPU is one.
const LOCAL_RANKS: u32 = 1;

/// The agent's side of a job.
#[derive(Debug)]
pub(super) struct Supervisor {
    name: String,
    /// The newest attempt that a command came for; commands of an older one are ignored.
    newest: control::Attempt,
    place: Option<control::Join>,
    rank: Option<Rank>,
    /// How the newest attempt's rank ended: told again when the coordinator was away.
    end: Option<control::Report>,
}

#[derive(Debug)]
struct Rank {
    attempt: control::Attempt,
    process: RankProcess,
    step: u64,
    /// What it said of its end. That is passed on when its process is gone.
    end: Option<report::Report>,
}

impl Supervisor {
    pub(super) fn new(name: &str) -> Self {
        let newest = control::Attempt::default();
        Self { name: name.to_owned(), newest, place: None, rank: None, end: None }
    }

    /// What is said first on a stream: who this is, what it is doing, and what the coordinator may have missed.
    pub(super) fn hello(&self) -> Vec<control::Report> {
        let running = self.rank.as_ref().map(|rank| (rank.attempt.clone(), rank.step));
        let ended = self.end.as_ref().and_then(|end| end.attempt.clone()).map(|attempt| (attempt, 0));
        let (attempt, step) = running.or(ended).map_or((None, 0), |(attempt, step)| (Some(attempt), step));
        let hello = report::Report::Hello(control::Hello {
            agent: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            local_ranks: LOCAL_RANKS,
            step,
        });
        let end = if self.rank.is_none() { self.end.clone() } else { None };
        [control::Report { attempt, report: Some(hello) }].into_iter().chain(end).collect()
    }

    /// Does what a command says; gives what is to be reported at once.
    pub(super) async fn obey(&mut self, command: control::Command) -> Option<control::Report> {
        let attempt = command.attempt.unwrap_or_default();
        let is_of_another_job = !self.newest.job_uid.is_empty() && attempt.job_uid != self.newest.job_uid;
        if is_of_another_job || attempt.number < self.newest.number {
            tracing::warn!(?attempt, newest = ?self.newest, "a command of another job or an older attempt is ignored");
            return None;
        }
        self.newest = attempt.clone();
        match command.command? {
            command::Command::Join(place) => self.place = Some(place),
            command::Command::RunPlan(plan) => return self.run(attempt, plan).await,
            command::Command::Checkpoint(_) => self.tell(&RankCommand::Checkpoint).await,
            command::Command::Drain(_) => self.tell(&RankCommand::Drain).await,
            command::Command::Abort(_) => self.abort().await,
            command::Command::LoadModel(_) => {
                return Some(failed(attempt, "this worker serves no models".to_owned()));
            }
        }
        None
    }

    /// Starts a rank, unless the attempt has one, or had one that ended.
    async fn run(&mut self, attempt: control::Attempt, plan: control::RunPlan) -> Option<control::Report> {
        let is_known = |other: &control::Attempt| *other == attempt;
        if self.rank.as_ref().is_some_and(|rank| is_known(&rank.attempt)) {
            return None;
        }
        if let Some(end) = self.end.as_ref().filter(|end| end.attempt.as_ref().is_some_and(is_known)) {
            return Some(end.clone());
        }
        // The coordinator begins no attempt before the last one's ranks are gone, unless it is not the same coordinator.
        self.end_rank().await;
        self.end = None;
        let Some(place) = self.place.clone() else {
            return Some(failed(attempt, "a run plan came before its join".to_owned()));
        };
        let started = request_of(plan, &place, attempt.number).and_then(|request| Ok((request, RankProcess::start()?)));
        match started {
            Ok((request, mut process)) => {
                process.send(&RankCommand::Run(Box::new(request))).await;
                self.rank = Some(Rank { attempt, process, step: 0, end: None });
                None
            }
            Err(error) => Some(failed(attempt, format!("{error:#}"))),
        }
    }

    async fn tell(&mut self, command: &RankCommand) {
        if let Some(rank) = &mut self.rank {
            rank.process.send(command).await;
        }
    }

    async fn abort(&mut self) {
        self.tell(&RankCommand::Abort).await;
        if let Some(rank) = &mut self.rank {
            rank.process.end();
        }
    }

    /// Ends the rank, if there is one, and waits until it is gone.
    pub(super) async fn end_rank(&mut self) {
        self.abort().await;
        if let Some(mut rank) = self.rank.take() {
            while rank.process.next().await.is_some() {}
        }
    }

    /// What the rank leads to next; never ready without a rank. It may be dropped at any time.
    pub(super) async fn next_report(&mut self) -> control::Report {
        loop {
            let Some(rank) = &mut self.rank else { std::future::pending().await };
            let message = rank.process.next().await;
            let attempt = Some(rank.attempt.clone());
            match message {
                Some(RankMessage::Event(event @ (RankEvent::Finished { .. } | RankEvent::Failed { .. }))) => {
                    rank.end = Some(report_of(event));
                }
                Some(RankMessage::Event(event)) => {
                    if let RankEvent::Progress(progress) = &event {
                        rank.step = progress.step;
                    }
                    return control::Report { attempt, report: Some(report_of(event)) };
                }
                gone => {
                    let crash = match gone {
                        Some(RankMessage::Gone(status)) => report_of_crash(status),
                        _ => failure("the rank's process was lost sight of".to_owned()),
                    };
                    let end = control::Report { attempt, report: Some(rank.end.take().unwrap_or(crash)) };
                    self.rank = None;
                    self.end = Some(end.clone());
                    return end;
                }
            }
        }
    }
}

fn failed(attempt: control::Attempt, message: String) -> control::Report {
    control::Report { attempt: Some(attempt), report: Some(failure(message)) }
}

fn failure(message: String) -> report::Report {
    report::Report::Failure(control::Failure { cause: failure::Cause::Internal.into(), message })
}
