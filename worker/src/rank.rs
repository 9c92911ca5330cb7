//! One rank: takes a job from its agent over standard input, runs it, and tells what happens on standard output.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use palimpsest_api::FailureReason;
use palimpsest_store::{Mounts, RunFolder};
use palimpsest_train::{Control, Event, Outcome, Phase, RunContext, run};

use crate::device::parse_device;
use crate::protocol::{
    Evaluated, PlannedStage, RankCommand, RankEvent, RankOutcome, RankPhase, RankProgress, RunRequest,
};

/// How often it says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Runs one job and exits: 0 when it ended well or was stopped, 2 for what the user can mend, 1 for the rest.
pub(crate) fn main() -> ExitCode {
    match run_job() {
        Ok(code) => code,
        Err(error) => {
            let error = match error.downcast::<palimpsest_store::Error>() {
                Ok(error) => Ok(palimpsest_train::Error::from(error)),
                Err(error) => error.downcast::<palimpsest_train::Error>(),
            };
            match error {
                Ok(error) => fail(&error),
                Err(error) => {
                    let reason = FailureReason::WorkerFailed.to_string();
                    send(&RankEvent::Failed { user: false, reason, message: format!("{error:#}") });
                    ExitCode::from(1)
                }
            }
        }
    }
}

fn run_job() -> Result<ExitCode> {
    // A rank that is stopped does not see the end of its standard input, but nobody may outlive the agent.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot ask to end with the agent")?;
    let mut first = String::new();
    std::io::stdin().read_line(&mut first).context("cannot read the job from standard input")?;
    let command: RankCommand =
        serde_json::from_str(&first).context("the first line of standard input is not a command")?;
    let RankCommand::Run(request) = command else {
        bail!("the first command must be Run");
    };
    let context = mk_context(*request)?;
    let control = Arc::new(Control::default());
    thread::spawn({
        let control = Arc::clone(&control);
        move || follow_commands(&control)
    });
    match while_alive(|| run(&context, &control, &mut |event| send(&translate(event)))) {
        Ok(outcome) => {
            send(&finished(outcome));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(fail(&error)),
    }
}

/// Does work, and tells all the while that the process is there. What ends it is told after the last of that.
fn while_alive<T>(work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                send(&RankEvent::Alive);
                if is_done.recv_timeout(HEARTBEAT) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Tells of an error, and gives the exit code that it has.
fn fail(error: &palimpsest_train::Error) -> ExitCode {
    let (user, reason) = (error.is_users(), error.reason().to_string());
    send(&RankEvent::Failed { user, reason, message: error.to_string() });
    ExitCode::from(if user { 2 } else { 1 })
}

fn mk_context(request: RunRequest) -> Result<RunContext> {
    if request.world != 1 {
        bail!("this build trains on one rank; world {} was asked for", request.world);
    }
    let mounts = Mounts { base: request.job_folder, mounts: request.mounts };
    Ok(RunContext {
        folder: RunFolder::of(&request.job, &mounts)?,
        job: request.job,
        mounts,
        job_uid: request.job_uid,
        attempt: request.attempt,
        device: parse_device(&request.device)?,
        threads: request.threads,
        profile_steps: request.profile_steps,
    })
}

/// Takes commands until standard input ends. That means that the agent is gone: another may be on its way with a rank of its
/// own, so this one ends here and now, whatever it is doing. Files are written whole or not at all.
fn follow_commands(control: &Control) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(RankCommand::Checkpoint) => control.request_checkpoint(),
            Ok(RankCommand::Drain) => control.request_drain(),
            Ok(RankCommand::Abort) => control.request_abort(),
            Ok(RankCommand::Run(_)) => tracing::warn!("a job is running already"),
            Err(error) => tracing::warn!(%error, "a command was not understood"),
        }
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

fn send(event: &RankEvent) {
    let mut stdout = std::io::stdout().lock();
    // Without an agent to listen the rank is about to be told to stop; there is nobody else to tell.
    let _ =
        serde_json::to_writer(&mut stdout, event).map_err(std::io::Error::from).and_then(|()| stdout.write_all(b"\n"));
    let _ = stdout.flush();
}

fn finished(outcome: Outcome) -> RankEvent {
    let (outcome, step, digest) = match outcome {
        Outcome::Succeeded { step, digest } => (RankOutcome::Succeeded, step, Some(digest)),
        Outcome::AlreadyFinished { step, digest } => (RankOutcome::AlreadyFinished, step, Some(digest)),
        Outcome::Stopped { step } => (RankOutcome::Stopped, step, None),
    };
    RankEvent::Finished { outcome, step, digest }
}

fn translate(event: Event) -> RankEvent {
    match event {
        Event::Phase { phase, fraction, message } => {
            RankEvent::Phase { phase: translate_phase(phase), fraction, message }
        }
        Event::Planned { steps, tokens, stages } => {
            let stages = stages.into_iter().map(|stage| PlannedStage {
                name: stage.name,
                steps: stage.steps,
                tokens: stage.tokens,
                buckets: stage.buckets,
            });
            RankEvent::Planned { steps, tokens, stages: stages.collect() }
        }
        Event::Resolved { precision } => RankEvent::Resolved { precision },
        Event::Step(progress) => RankEvent::Progress(Box::new(RankProgress {
            step: progress.step,
            steps: progress.steps,
            stage: progress.stage,
            stage_index: progress.stage_index,
            stages: progress.stages,
            bucket: progress.bucket,
            buckets: progress.buckets,
            loss: progress.loss,
            learning_rate: progress.learning_rate,
            tokens: progress.tokens,
            tokens_per_second: progress.tokens_per_second,
            remaining_seconds: progress.remaining_seconds,
            record: progress.record,
            matrix_flops_per_second: progress.matrix_flops_per_second,
        })),
        Event::CheckpointCommitted { step } => RankEvent::CheckpointCommitted { step },
        Event::Evaluated(record) => RankEvent::Evaluated(Evaluated {
            step: record.step,
            stage: record.stage,
            when: format!("{:?}", record.when),
            name: record.name,
            dataset: record.dataset,
            language: record.language,
            bits_per_byte: record.score.bits_per_byte,
            documents: record.score.documents,
        }),
        Event::Warning(message) => RankEvent::Warning { message },
        Event::Notice(message) => RankEvent::Notice { message },
    }
}

fn translate_phase(phase: Phase) -> RankPhase {
    match phase {
        Phase::Preparing => RankPhase::Preparing,
        Phase::Loading => RankPhase::Loading,
        Phase::Evaluating => RankPhase::Evaluating,
        Phase::Training => RankPhase::Training,
        Phase::Exporting => RankPhase::Exporting,
    }
}
