//! A job whose data is prepared: its model loaded or resumed, its stages trained, its end published.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use palimpsest_api::{ActivationCheckpointing, Attention, CarryOver, FailureReason, TrainingJob};
use palimpsest_corpus::StageReader;
use palimpsest_model::{Checkpointing, Decoder, ForwardOptions};
use palimpsest_prepare::{PreparedJob, check_warm_up};
use palimpsest_store::Fence;
use palimpsest_torch::Span;

use crate::attempts::Attempts;
use crate::checkpoint::{self, Checkpoint, Identity, State, TokenizerFiles, Writer};
use crate::control::{Control, Event, Outcome, Phase, PlannedStage, Progress};
use crate::dataset_loss::DatasetLosses;
use crate::error::{Error, Result};
use crate::evaluate::Evaluator;
use crate::fingerprint::Fingerprint;
use crate::flops::{self, MatrixRate};
use crate::job::{RunContext, write_json};
use crate::optimizer::Optimizer;
use crate::pace::Pace;
use crate::profile::Profile;
use crate::records::{self, Moment, RecordFile, StepRecord};
use crate::setup::{self, Base};
use crate::spikes::SpikeWindow;
use crate::step::{StepContext, take_step};
use crate::telemetry::RowNorms;

/// Steps between checkpoints of a job that names no interval.
const DEFAULT_INTERVAL_STEPS: u64 = 400;

/// A job at some step of its.
pub(crate) struct Trainer<'a> {
    pub(crate) context: &'a RunContext,
    control: &'a Control,
    pub(crate) prepared: &'a PreparedJob,
    pub(crate) digest: String,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) fence: Fence,
    pub(crate) readers: Vec<StageReader>,
    pub(crate) stages: Vec<PlannedStage>,
    pub(crate) evaluator: Evaluator<'a>,
    pub(crate) metrics: RecordFile<StepRecord>,
    pub(crate) attempts: Attempts,
    events: palimpsest_events::EventWriter,
    pub(crate) model: Decoder,
    optimizer: Optimizer,
    pub(crate) state: State,
    writer: Writer,
    last_checkpoint: (u64, Instant),
    /// Seconds that training has waited for checkpoints since the last step.
    pub(crate) stall: f64,
    pace: Pace,
    rate: MatrixRate,
    profile: Profile,
}

impl<'a> Trainer<'a> {
    /// Loads the model, or the newest checkpoint. Nothing is written into the run's folder before it is clear that the job
    /// can be trained: one that is refused leaves the place as it was, and can be mended and run again.
    pub(crate) fn new(
        context: &'a RunContext,
        control: &'a Control,
        prepared: &'a PreparedJob,
        digest: String,
        fence: Fence,
        began: f64,
        report: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let job = &context.job;
        let plan = &prepared.plan;
        let readers: Vec<StageReader> =
            (0..plan.stages.len()).map(|stage| plan.reader(stage)).collect::<Result<_, _>>()?;
        let stages = planned_stages(prepared);
        check_warm_up(&job.spec.stages, stages.iter().map(|stage| stage.steps))?;
        report(Event::Planned {
            steps: stages.iter().map(|stage| stage.steps).sum(),
            tokens: stages.iter().map(|stage| stage.tokens).sum(),
            stages: stages.clone(),
        });

        report(Event::Phase { phase: Phase::Loading, fraction: None, message: "loading the model".to_owned() });
        let found = checkpoint::newest(&context.folder.checkpoints(), None, |warning| report(Event::Warning(warning)))?;
        if let Some(found) = &found {
            check_origin(found, &digest, &plan.digest)?;
        }
        let recorded = found.as_ref().map(|found| found.manifest.fingerprint.precision.as_str());
        let kinds = setup::kinds(job.spec.precision, context.device, recorded);
        let fingerprint = Fingerprint::new(kinds.compute, context.device, context.threads)?;
        tracing::info!(instruction_set = fingerprint.instruction_set, precision = fingerprint.precision, "computing");
        report(Event::Resolved { precision: fingerprint.precision.clone() });
        if let Some(warning) = fingerprint.emulation(palimpsest_torch::cpu_has_bfloat16()) {
            report(Event::Warning(warning));
        }
        let Base { model, moments } = match &found {
            Some(found) => {
                Base { model: found.model(context.device, kinds.masters)?, moments: Some(found.optimizer()?) }
            }
            None => setup::base(job, &context.mounts, prepared, context.device, kinds.masters)?,
        };

        // A newer attempt may have gone on while the model was loaded. From here on the run's folder is written to.
        write_json(&fence, &context.folder.job(), job)?;
        plan.save(&context.folder.plan())?;
        let resumed = found.as_ref().map(|found| found.state.step);
        let step = resumed.unwrap_or(0);
        let first_new_id = prepared.extension.as_ref().map(|extension| extension.first_new_id);
        let mut evaluator = Evaluator {
            job,
            plan,
            forward: ForwardOptions { compute: kinds.compute, ..ForwardOptions::default() },
            first_new_id,
            records: RecordFile::open_at(&fence, &context.folder.evaluations(), step)?,
        };
        let steps = records::read(&context.folder.metrics())?;
        let attempts = Attempts::begin(&fence, &context.folder.attempts(), context.attempt, began, step, &steps)?;
        let metrics = RecordFile::open_at(&fence, &context.folder.metrics(), step)?;
        let events =
            palimpsest_events::EventWriter::create(&context.folder.tensorboard(), step + 1, seconds_since_1970())?;
        let identity = Identity {
            root: context.folder.checkpoints(),
            keep: job.spec.checkpoint.keep,
            fence: fence.clone(),
            job: digest.clone(),
            plan: plan.digest.clone(),
            fingerprint: fingerprint.clone(),
            tokenizer: TokenizerFiles::Unwritten(Box::new(prepared.tokenizer.clone())),
        };

        let (model, optimizer, state) = match found {
            Some(found) => {
                report(Event::Notice(format!("going on from the checkpoint of step {step}")));
                let optimizer = Optimizer::of_checkpoint(&model, moments.unwrap_or_default())?;
                report(Event::CheckpointCommitted { step });
                (model, optimizer, resumed_state(found, &fingerprint, report))
            }
            None => begin(job, prepared, &mut evaluator, model, moments, report)?,
        };
        Ok(Self {
            context,
            control,
            prepared,
            digest,
            fingerprint,
            fence,
            readers,
            stages,
            evaluator,
            metrics,
            attempts,
            events,
            model,
            optimizer,
            writer: Writer::new(identity, resumed)?,
            last_checkpoint: (state.step, Instant::now()),
            state,
            stall: 0.0,
            pace: Pace::default(),
            rate: MatrixRate::new(kinds.compute, context.device),
            profile: Profile::new(context.folder.traces(), context.device, context.profile_steps),
        })
    }

    /// Trains what is left and publishes the result.
    pub(crate) fn finish(mut self, report: &mut dyn FnMut(Event)) -> Result<Outcome> {
        if self.state.step == 0 {
            self.evaluator.measure(&self.model, Moment::JobStart, 0, None, report)?;
            // A place that cannot take a checkpoint is noticed before the first step, not after hours.
            self.begin_checkpoint(report)?;
            self.await_checkpoint(report)?;
        }
        while self.state.stage < self.stages.len() {
            if let Some(stopped) = self.train_stage(report)? {
                tell_trace(self.profile.save(self.state.step)?, report);
                self.attempts.end(seconds_since_1970(), self.stall)?;
                return Ok(stopped);
            }
        }
        tell_trace(self.profile.save(self.state.step)?, report);
        self.evaluator.measure(&self.model, Moment::JobEnd, self.state.step, self.last_stage_name(), report)?;
        self.await_checkpoint(report)?;
        let digest = self.publish(report)?;
        Ok(Outcome::Succeeded { step: self.state.step, digest })
    }

    /// Takes the steps of the current stage that are left; gives an outcome if the job is to stop.
    fn train_stage(&mut self, report: &mut dyn FnMut(Event)) -> Result<Option<Outcome>> {
        let index = self.state.stage;
        let job = &self.context.job;
        let stage = &job.spec.stages[index];
        if self.state.stage_step == 0 {
            if stage.carry_over == CarryOver::Weights {
                self.optimizer.reset();
            }
            self.state.spikes = SpikeWindow::default();
        }
        self.optimizer.set_trainable(&mut self.model, stage.trainable)?;
        let forward = ForwardOptions { checkpointing: checkpointing(job), ..self.evaluator.forward.clone() };
        report(Event::Phase {
            phase: Phase::Training,
            fraction: None,
            message: format!("training stage {}", stage.name),
        });
        self.pace = Pace::default();
        let shape = flops::shape(&self.model)?;
        while self.state.stage_step < self.stages[index].steps {
            if self.control.is_aborted() {
                return Err(Error::Aborted);
            }
            if self.control.is_draining() {
                self.begin_checkpoint(report)?;
                self.await_checkpoint(report)?;
                return Ok(Some(Outcome::Stopped { step: self.state.step }));
            }
            let context = StepContext {
                stage,
                reader: &self.readers[index],
                steps: self.stages[index].steps,
                sequence_length: job.spec.data.sequence_length as usize,
                document_attention: job.spec.data.attention == Attention::Document,
                forward: forward.clone(),
                device: self.context.device,
                shape,
            };
            self.profile.before(self.state.step + 1)?;
            let (record, losses) = take_step(
                &context,
                &mut self.model,
                &mut self.optimizer,
                &mut self.state.spikes,
                self.state.stage_step,
                self.state.step + 1,
            )?;
            self.state.losses.resize(self.stages.len(), DatasetLosses::default());
            self.state.losses[index].add(&losses);
            self.take_in(record, report)?;
            self.evaluator.measure(&self.model, Moment::Interval, self.state.step, Some(&stage.name), report)?;
            self.poll_checkpoint(report)?;
            if self.checkpoint_is_due() && self.state.stage_step < self.stages[index].steps {
                self.begin_checkpoint(report)?;
            }
            tell_trace(self.profile.after(self.state.step)?, report);
        }
        if let Some(first) = self.evaluator.first_new_id {
            self.state.rows.extend(RowNorms::of(&self.model, i64::from(first), Some(stage.name.clone())));
        }
        self.evaluator.measure(&self.model, Moment::StageEnd, self.state.step, Some(&stage.name), report)?;
        self.state.stage += 1;
        self.state.stage_step = 0;
        self.begin_checkpoint(report)?;
        Ok(None)
    }

    /// Counts a step that was taken, writes it down and tells of it.
    fn take_in(&mut self, mut record: StepRecord, report: &mut dyn FnMut(Event)) -> Result<()> {
        record.checkpoint_seconds = std::mem::take(&mut self.stall);
        record.time = seconds_since_1970();
        record.mfu = self.rate.share_of(&record)?;
        self.state.step += 1;
        self.state.stage_step += 1;
        self.state.totals.add(&record);
        self.metrics.append(&record)?;
        self.write_events(&record)?;
        self.pace.add(&record);
        if record.skipped {
            let loss = record.loss.map_or("not a number".to_owned(), |loss| format!("{loss:.4}"));
            report(Event::Warning(format!(
                "step {}: the loss is {loss}, a spike; the optimizer did not step",
                record.step
            )));
        }
        report(Event::Step(self.progress(&record)));
        Ok(())
    }

    fn checkpoint_is_due(&self) -> bool {
        let spec = &self.context.job.spec.checkpoint;
        let (step, time) = self.last_checkpoint;
        let steps = match (spec.interval_steps, spec.interval_seconds) {
            (Some(steps), _) => Some(steps),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_INTERVAL_STEPS),
        };
        self.control.take_checkpoint()
            || steps.is_some_and(|steps| self.state.step - step >= steps)
            || spec.interval_seconds.is_some_and(|seconds| time.elapsed() >= Duration::from_secs(seconds))
    }

    /// Begins to write a checkpoint of the present state, unless there is one already.
    fn begin_checkpoint(&mut self, report: &mut dyn FnMut(Event)) -> Result<()> {
        let stall = Span::begin(c"checkpoint");
        self.fence.check()?;
        let before = self.writer.begin(&self.model, &self.optimizer.state(), &self.state)?;
        self.last_checkpoint = (self.state.step, Instant::now());
        self.write_telemetry(None)?;
        self.stall += stall.end().as_secs_f64();
        tell_committed(before, report);
        Ok(())
    }

    fn poll_checkpoint(&mut self, report: &mut dyn FnMut(Event)) -> Result<()> {
        tell_committed(self.writer.poll()?, report);
        Ok(())
    }

    /// Waits until the checkpoint on its way, if there is one, is there.
    fn await_checkpoint(&mut self, report: &mut dyn FnMut(Event)) -> Result<()> {
        let stall = Instant::now();
        let committed = self.writer.wait(|| self.control.is_aborted())?;
        self.stall += stall.elapsed().as_secs_f64();
        tell_committed(committed, report);
        Ok(())
    }

    fn progress(&self, record: &StepRecord) -> Progress {
        let steps = self.stages.iter().map(|stage| stage.steps).sum::<u64>();
        let stage = &self.stages[self.state.stage];
        Progress {
            step: record.step,
            steps,
            stage: record.stage.clone(),
            stage_index: self.state.stage as u32,
            stages: self.stages.len() as u32,
            bucket: record.bucket,
            buckets: stage.buckets,
            loss: record.loss,
            learning_rate: record.learning_rate,
            tokens: self.state.totals.tokens,
            tokens_per_second: self.pace.tokens_per_second(),
            remaining_seconds: self.pace.seconds_per_step() * (steps - record.step) as f64,
            record: record.clone(),
            matrix_flops_per_second: self.rate.flops_per_second(),
        }
    }

    fn write_events(&mut self, record: &StepRecord) -> Result<()> {
        let scalars = [
            ("train/loss", record.loss),
            ("train/gradient_norm", record.grad_norm),
            ("train/learning_rate", Some(record.learning_rate)),
            ("train/tokens_per_second", Some(record.tokens_per_second)),
        ];
        let values: Vec<(&str, f64)> = scalars.into_iter().filter_map(|(tag, value)| Some((tag, value?))).collect();
        Ok(self.events.scalars(record.step, seconds_since_1970(), &values)?)
    }

    fn last_stage_name(&self) -> Option<&'a str> {
        self.context.job.spec.stages.last().map(|stage| stage.name.as_str())
    }
}

fn tell_committed(step: Option<u64>, report: &mut dyn FnMut(Event)) {
    if let Some(step) = step {
        report(Event::CheckpointCommitted { step });
    }
}

fn tell_trace(trace: Option<PathBuf>, report: &mut dyn FnMut(Event)) {
    if let Some(trace) = trace {
        report(Event::Notice(format!("the profile is in {}", trace.display())));
    }
}

/// What a job that has no checkpoint yet begins with: the base model is measured, then its vocabulary extended.
fn begin(
    job: &TrainingJob,
    prepared: &PreparedJob,
    evaluator: &mut Evaluator<'_>,
    mut model: Decoder,
    moments: Option<crate::optimizer::Moments>,
    report: &mut dyn FnMut(Event),
) -> Result<(Decoder, Optimizer, State)> {
    if let Some(tokenizer) = &prepared.base_tokenizer {
        evaluator.measure_base(&model, tokenizer, report)?;
    }
    setup::extend_vocabulary(job, prepared, &mut model)?;
    let first_new_row = evaluator.first_new_id.map(i64::from);
    let optimizer = match moments {
        Some(moments) => Optimizer::of_checkpoint(&model, moments)?,
        None => Optimizer::new(&model, first_new_row),
    };
    let rows = first_new_row.and_then(|first| RowNorms::of(&model, first, None)).into_iter().collect();
    Ok((model, optimizer, State { rows, ..State::default() }))
}

/// The state of a checkpoint that the job goes on from. What only changes the last bits is told, and recorded.
fn resumed_state(found: Checkpoint, fingerprint: &Fingerprint, report: &mut dyn FnMut(Event)) -> State {
    let mut state = found.state;
    let differences = fingerprint.differences(&found.manifest.fingerprint);
    if !differences.is_empty() {
        let warning = format!(
            "going on from step {} with other numerics, so the last bits may differ: {}",
            state.step,
            differences.join("; ")
        );
        report(Event::Warning(warning.clone()));
        state.warnings.push(warning);
    }
    state
}

/// The checkpoint must be of this very job and data.
fn check_origin(found: &Checkpoint, digest: &str, plan: &str) -> Result<()> {
    if found.manifest.job != digest {
        let message = format!("{} is of another job; choose another checkpoint.uri", found.folder.display());
        return Err(Error::refused(FailureReason::CheckpointConflict, message));
    }
    if found.manifest.plan != plan {
        let message = format!(
            "the data or the tokenizer has changed since {} was written; restore it or start in another folder",
            found.folder.display()
        );
        return Err(Error::refused(FailureReason::DataChanged, message));
    }
    Ok(())
}

fn planned_stages(prepared: &PreparedJob) -> Vec<PlannedStage> {
    let planned = prepared.plan.stages.iter().map(|stage| PlannedStage {
        name: stage.name.clone(),
        steps: stage.steps,
        tokens: stage.document_tokens(),
        buckets: stage.buckets.len() as u32,
    });
    planned.collect()
}

pub(crate) fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn checkpointing(job: &TrainingJob) -> Checkpointing {
    match job.spec.activation_checkpointing {
        ActivationCheckpointing::None => Checkpointing::None,
        ActivationCheckpointing::Selective => Checkpointing::Selective,
        ActivationCheckpointing::Full => Checkpointing::Full,
    }
}
