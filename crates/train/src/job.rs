//! A whole job in one rank: prepare, load or resume, measure, train stage by stage, publish.
//!
//! ```text
//! prepare -> model -> [Base] extend [JobStart] -> stage 0: steps ... [StageEnd] -> stage 1 ... -> [JobEnd] -> publish
//!                  `- or: the newest checkpoint -----------^
//! ```

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use palimpsest_api::{ActivationCheckpointing, Attention, CarryOver, TrainingJob, differing_fields, result_digest};
use palimpsest_corpus::StageReader;
use palimpsest_model::{Checkpointing, Decoder, ForwardOptions};
use palimpsest_prepare::{PreparedJob, prepare_job};
use palimpsest_store::{Mounts, RunFolder, write_atomically};
use tch::Device;

use crate::checkpoint::{self, Contents, State, Totals};
use crate::control::{Control, Event, Outcome, Phase, PlannedStage, Progress};
use crate::error::{Error, Result};
use crate::evaluate::Evaluator;
use crate::fingerprint::Fingerprint;
use crate::optimizer::Optimizer;
use crate::publish::{self, Existing, OutputManifest};
use crate::records::{Moment, RecordFile, StepRecord};
use crate::setup;
use crate::spikes::SpikeWindow;
use crate::step::{StepContext, take_step};
use crate::summary::{ModelSummary, Summary};
use crate::telemetry::{RowNorms, Telemetry, count_targets};

/// How many steps the pace for the time left is taken over.
const PACE_STEPS: usize = 20;

/// Steps between checkpoints of a job that names no interval.
const DEFAULT_INTERVAL_STEPS: u64 = 400;

/// What a rank is given.
#[derive(Debug)]
pub struct RunContext {
    /// The job, validated.
    pub job: TrainingJob,
    /// How its URIs are resolved.
    pub mounts: Mounts,
    /// Where everything is left.
    pub folder: RunFolder,
    /// The fencing number of this try.
    pub attempt: u64,
    /// Where tensors live.
    pub device: Device,
    /// Threads of libtorch inside an operation, and of preparation.
    pub threads: usize,
}

/// Runs a job from wherever it stands to its end.
pub fn run(context: &RunContext, control: &Control, report: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let job = &context.job;
    let digest = result_digest(job);
    let output = context.folder.model();
    if let Existing::Own { step } = publish::look(&output, &digest, job.spec.output.on_existing)? {
        return Ok(Outcome::AlreadyFinished { step });
    }
    check_folder(&context.folder, job, &digest)?;
    palimpsest_torch::set_threads(context.threads)?;

    report(Event::Phase {
        phase: Phase::Preparing,
        fraction: None,
        message: "preparing tokenizer and data".to_owned(),
    });
    let cancelled = AtomicBool::new(false);
    let mut on_progress = |progress: palimpsest_prepare::Progress| {
        if control.is_aborted() || control.is_draining() {
            cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        report(Event::Phase { phase: Phase::Preparing, fraction: progress.fraction, message: progress.message });
    };
    let prepared = prepare_job(job, &context.mounts, &context.folder, context.threads, &mut on_progress, &cancelled);
    let prepared = match prepared {
        Err(_) if control.is_draining() => return Ok(Outcome::Stopped { step: 0 }),
        Err(_) if control.is_aborted() => return Err(Error::Aborted),
        prepared => prepared?,
    };
    // From here on the folder is this job's: one whose data could not be prepared has left nothing worth keeping.
    write_json(&context.folder.job(), job)?;
    prepared.plan.save(&context.folder.plan())?;
    Run::new(context, control, &prepared, digest, report)?.finish(report)
}

/// Refuses a folder where another job has left its work.
fn check_folder(folder: &RunFolder, job: &TrainingJob, digest: &str) -> Result<()> {
    let path = folder.job();
    let Ok(bytes) = std::fs::read(&path) else { return Ok(()) };
    let before: TrainingJob = serde_json::from_slice(&bytes)
        .map_err(|error| Error::User(format!("{}: {error}; remove it or choose another folder", path.display())))?;
    if result_digest(&before) == digest {
        return Ok(());
    }
    Err(Error::User(format!(
        "{} holds the work of a job that differs in {}; undo the change or choose another output",
        folder.root().display(),
        differing_fields(&before, job).join(", ")
    )))
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let bytes =
        serde_json::to_vec_pretty(value).map_err(|error| Error::User(format!("{}: {error}", path.display())))?;
    Ok(write_atomically(path, &bytes)?)
}

/// A job whose data is prepared and whose model is loaded.
struct Run<'a> {
    context: &'a RunContext,
    control: &'a Control,
    prepared: &'a PreparedJob,
    digest: String,
    fingerprint: Fingerprint,
    readers: Vec<StageReader>,
    stages: Vec<PlannedStage>,
    evaluator: Evaluator<'a>,
    metrics: RecordFile<StepRecord>,
    events: palimpsest_events::EventWriter,
    model: Decoder,
    optimizer: Optimizer,
    state: State,
    warnings: Vec<String>,
    last_checkpoint: (u64, Instant),
}

impl<'a> Run<'a> {
    fn new(
        context: &'a RunContext,
        control: &'a Control,
        prepared: &'a PreparedJob,
        digest: String,
        report: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let job = &context.job;
        let plan = &prepared.plan;
        let readers: Vec<StageReader> =
            (0..plan.stages.len()).map(|stage| plan.reader(stage)).collect::<Result<_, _>>()?;
        let stages: Vec<PlannedStage> = plan
            .stages
            .iter()
            .map(|stage| PlannedStage {
                name: stage.name.clone(),
                steps: stage.steps,
                tokens: stage.document_tokens(),
                buckets: stage.buckets.len() as u32,
            })
            .collect();
        check_warm_up(job, &stages)?;
        report(Event::Planned {
            steps: stages.iter().map(|stage| stage.steps).sum(),
            tokens: stages.iter().map(|stage| stage.tokens).sum(),
            stages: stages.clone(),
        });

        report(Event::Phase { phase: Phase::Loading, fraction: None, message: "loading the model".to_owned() });
        let kinds = setup::kinds(job.spec.precision, context.device);
        let fingerprint = Fingerprint::new(kinds.compute, context.device, context.threads)?;
        let first_new_id = prepared.extension.as_ref().map(|extension| extension.first_new_id);
        let first_new_row = first_new_id.map(i64::from);
        let forward = ForwardOptions { compute: kinds.compute, ..ForwardOptions::default() };
        let root = context.folder.checkpoints();
        let mut warnings = Vec::new();
        let found = checkpoint::newest(&root, None, |warning| warnings.push(warning))?;
        let step = found.as_ref().map_or(0, |found| found.state.step);
        let mut evaluator = Evaluator {
            job,
            plan,
            forward,
            first_new_id,
            records: RecordFile::open_at(&context.folder.evaluations(), step)?,
        };
        let metrics = RecordFile::open_at(&context.folder.metrics(), step)?;
        let events =
            palimpsest_events::EventWriter::create(&context.folder.tensorboard(), step + 1, seconds_since_1970())?;

        let (model, optimizer, state) = match found {
            Some(found) => {
                warnings.extend(resume_warning(&found.manifest, &digest, &prepared.plan.digest, &fingerprint)?);
                let model = found.model(context.device, kinds.masters)?;
                let optimizer = Optimizer::of_checkpoint(&model, found.optimizer()?)?;
                (model, optimizer, found.state)
            }
            None => {
                let setup::Base { mut model, moments } =
                    setup::base(job, &context.mounts, prepared, context.device, kinds.masters)?;
                if let Some(tokenizer) = &prepared.base_tokenizer {
                    evaluator.measure_base(&model, tokenizer, report)?;
                }
                setup::extend_vocabulary(job, prepared, &mut model)?;
                let optimizer = match moments {
                    Some(moments) => Optimizer::of_checkpoint(&model, moments)?,
                    None => Optimizer::new(&model, first_new_row),
                };
                let rows = first_new_row.and_then(|first| RowNorms::of(&model, first, None)).into_iter().collect();
                let state = State {
                    step: 0,
                    stage: 0,
                    stage_step: 0,
                    spikes: SpikeWindow::default(),
                    totals: Totals::default(),
                    rows,
                };
                (model, optimizer, state)
            }
        };
        for warning in &warnings {
            report(Event::Warning(warning.clone()));
        }
        Ok(Self {
            context,
            control,
            prepared,
            digest,
            fingerprint,
            readers,
            stages,
            evaluator,
            metrics,
            events,
            model,
            optimizer,
            last_checkpoint: (state.step, Instant::now()),
            state,
            warnings,
        })
    }

    /// Trains what is left and publishes the result.
    fn finish(mut self, report: &mut dyn FnMut(Event)) -> Result<Outcome> {
        if self.state.step == 0 {
            self.evaluator.measure(&self.model, Moment::JobStart, 0, None, report)?;
            // A place that cannot take a checkpoint is noticed before the first step, not after hours.
            self.commit(report)?;
        }
        while self.state.stage < self.stages.len() {
            if let Some(stopped) = self.train_stage(report)? {
                return Ok(stopped);
            }
        }
        self.evaluator.measure(&self.model, Moment::JobEnd, self.state.step, self.last_stage_name(), report)?;
        self.publish(report)?;
        Ok(Outcome::Succeeded { step: self.state.step })
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
        let mut pace = Pace::default();
        while self.state.stage_step < self.stages[index].steps {
            if self.control.is_aborted() {
                return Err(Error::Aborted);
            }
            if self.control.is_draining() {
                self.commit(report)?;
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
            };
            let record = take_step(
                &context,
                &mut self.model,
                &mut self.optimizer,
                &mut self.state.spikes,
                self.state.stage_step,
                self.state.step + 1,
            )?;
            self.state.step += 1;
            self.state.stage_step += 1;
            self.state.totals.add(&record);
            self.metrics.append(&record)?;
            self.write_events(&record)?;
            pace.add(&record);
            if record.skipped {
                let loss = record.loss.map_or("not a number".to_owned(), |loss| format!("{loss:.4}"));
                report(Event::Warning(format!(
                    "step {}: the loss is {loss}, a spike; the optimizer did not step",
                    record.step
                )));
            }
            report(Event::Step(self.progress(&record, &pace)));
            self.evaluator.measure(&self.model, Moment::Interval, self.state.step, Some(&stage.name), report)?;
            if self.checkpoint_is_due() && self.state.stage_step < self.stages[index].steps {
                self.commit(report)?;
            }
        }
        if let Some(first) = self.evaluator.first_new_id {
            self.state.rows.extend(RowNorms::of(&self.model, i64::from(first), Some(stage.name.clone())));
        }
        self.evaluator.measure(&self.model, Moment::StageEnd, self.state.step, Some(&stage.name), report)?;
        self.state.stage += 1;
        self.state.stage_step = 0;
        self.commit(report)?;
        Ok(None)
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

    /// Writes a checkpoint of the present state, unless it is written already.
    fn commit(&mut self, report: &mut dyn FnMut(Event)) -> Result<()> {
        let root = self.context.folder.checkpoints();
        let contents = Contents {
            model: &self.model,
            tokenizer: &self.prepared.tokenizer,
            optimizer: self.optimizer.state(),
            state: &self.state,
            attempt: self.context.attempt,
            job: &self.digest,
            plan: &self.prepared.plan.digest,
            fingerprint: &self.fingerprint,
        };
        checkpoint::write(&root, &contents, self.context.job.spec.checkpoint.keep)?;
        self.last_checkpoint = (self.state.step, Instant::now());
        report(Event::CheckpointCommitted { step: self.state.step });
        Ok(())
    }

    fn progress(&self, record: &StepRecord, pace: &Pace) -> Progress {
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
            tokens_per_second: pace.tokens_per_second(),
            remaining_seconds: pace.seconds_per_step() * (steps - record.step) as f64,
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

    fn publish(&mut self, report: &mut dyn FnMut(Event)) -> Result<()> {
        report(Event::Phase { phase: Phase::Exporting, fraction: None, message: "writing the model".to_owned() });
        let job = &self.context.job;
        let folder = &self.context.folder;
        let output = folder.model();
        let evaluations = self.evaluator.records.records()?;
        if let Some(extension) = &self.prepared.extension {
            let targets = count_targets(&self.readers, extension.first_new_id, extension.sources.len())?;
            write_json(&folder.telemetry(), &Telemetry::new(&targets, &self.state.rows, &evaluations))?;
        }
        // Looked at once more: somebody else's model may have come meanwhile.
        publish::look(&output, &self.digest, job.spec.output.on_existing)?;
        let manifest = OutputManifest {
            name: job.metadata.name.clone(),
            job: self.digest.clone(),
            steps: self.state.step,
            files: Default::default(),
        };
        let (model_digest, warnings) =
            publish::publish(&output, &self.model, &self.prepared.tokenizer, &job.spec.output, manifest)?;
        for warning in warnings {
            report(Event::Warning(warning.clone()));
            self.warnings.push(warning);
        }
        let totals = self.state.totals;
        let summary = Summary {
            job: &job.metadata.name,
            digest: &self.digest,
            plan_digest: &self.prepared.plan.digest,
            state: "Succeeded",
            steps: self.state.step,
            tokens: totals.tokens,
            target_tokens: totals.targets,
            slots: totals.slots,
            seconds: totals.seconds,
            precision: &self.fingerprint.precision,
            device: &self.fingerprint.device,
            threads: self.context.threads,
            model: ModelSummary {
                path: output,
                digest: model_digest,
                parameters: self.model.parameters().iter().map(|parameter| parameter.tensor.numel() as u64).sum(),
            },
            tokenizer: serde_json::to_value(&self.prepared.measurements)
                .map_err(|error| Error::User(format!("summary.json: {error}")))?,
            stages: &self.stages,
            evaluations,
            clipped_fraction: totals.clipped as f64 / self.state.step.max(1) as f64,
            skipped_steps: totals.skipped,
            fingerprint: &self.fingerprint,
            warnings: &self.warnings,
        };
        write_json(&folder.summary(), &summary)
    }
}

/// The checkpoint must be of this very job and data; what only changes the last bits is a warning.
fn resume_warning(
    manifest: &checkpoint::Manifest,
    digest: &str,
    plan: &str,
    fingerprint: &Fingerprint,
) -> Result<Option<String>> {
    if manifest.job != digest {
        return Err(Error::User(
            "the checkpoints are those of another job (CheckpointConflict); choose another checkpoint.uri".to_owned(),
        ));
    }
    if manifest.plan != plan {
        return Err(Error::User(
            "the data or the tokenizer has changed since the checkpoint was written; restore it or start in another folder"
                .to_owned(),
        ));
    }
    let differences = fingerprint.differences(&manifest.fingerprint);
    Ok((!differences.is_empty()).then(|| {
        format!(
            "going on from step {} with other numerics, so the last bits may differ: {}",
            manifest.step,
            differences.join("; ")
        )
    }))
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn check_warm_up(job: &TrainingJob, stages: &[PlannedStage]) -> Result<()> {
    for (index, (stage, planned)) in job.spec.stages.iter().zip(stages).enumerate() {
        let needed = stage.schedule.warmup_steps + stage.schedule.decay_steps.unwrap_or(0);
        if needed > planned.steps {
            return Err(Error::User(format!(
                "spec.stages[{index}].schedule: {needed} steps of warm-up and decay do not fit into the stage's {} steps; \
                 lower them or raise the budget",
                planned.steps
            )));
        }
    }
    Ok(())
}

fn checkpointing(job: &TrainingJob) -> Checkpointing {
    match job.spec.activation_checkpointing {
        ActivationCheckpointing::None => Checkpointing::None,
        ActivationCheckpointing::Selective => Checkpointing::Selective,
        ActivationCheckpointing::Full => Checkpointing::Full,
    }
}

/// Seconds and tokens of the last steps.
#[derive(Debug, Default)]
struct Pace(std::collections::VecDeque<(f64, u64)>);

impl Pace {
    fn add(&mut self, record: &StepRecord) {
        self.0.push_back((record.seconds, record.tokens));
        if self.0.len() > PACE_STEPS {
            self.0.pop_front();
        }
    }

    fn seconds_per_step(&self) -> f64 {
        self.0.iter().map(|(seconds, _)| seconds).sum::<f64>() / self.0.len().max(1) as f64
    }

    fn tokens_per_second(&self) -> f64 {
        let seconds: f64 = self.0.iter().map(|(seconds, _)| seconds).sum();
        self.0.iter().map(|(_, tokens)| *tokens as f64).sum::<f64>() / seconds.max(1e-9)
    }
}
