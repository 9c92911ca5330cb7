//! `palimpsest bench data`: data is tokenised and packed in a folder that is thrown away, and the time taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result};
use palimpsest_api::{DataSpec, Fields, Stage, TrainingJobSpec};
use palimpsest_corpus::{Phase, Plan, PrepareRequest, dataset_of, prepare};
use palimpsest_prepare::{Progress, evaluated_datasets, job_tokenizer};
use palimpsest_store::Mounts;
use palimpsest_vocab::Tokenizer;
use serde::Serialize;
use serde_json::json;

use crate::errors::UserError;
use crate::job::{JobOptions, parse_mount};
use crate::prepare::cancellable;
use crate::run::STOPPED;
use crate::threads::Threads;
use crate::words;

/// What to prepare.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["job", "files"]))]
pub(crate) struct Arguments {
    /// The job whose data is prepared.
    #[arg(long, value_name = "JOB.yaml")]
    job: Option<PathBuf>,
    /// The folder of the job's pvc://NAME/.
    #[arg(long = "mount", value_name = "NAME=DIR", value_parser = parse_mount, requires = "job")]
    mounts: Vec<(String, PathBuf)>,
    /// Change a field of the job, such as spec.data.sequenceLength=512; null takes it away.
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "job")]
    overrides: Vec<String>,
    /// The vocabulary for the files.
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "job", conflicts_with = "job")]
    tokenizer: Option<PathBuf>,
    /// The field of a record that holds its text.
    #[arg(long, value_name = "FIELD", default_value = "target", conflicts_with = "job")]
    text_field: String,
    /// The field of a record that holds the prompt before it, if there is one.
    #[arg(long, value_name = "FIELD", default_value = "source", conflicts_with = "job")]
    prompt_field: String,
    /// Input positions of a sequence.
    #[arg(long, value_name = "N", default_value_t = 4096, conflicts_with = "job")]
    sequence_length: u32,
    #[command(flatten)]
    threads: Threads,
    /// Write JSON.
    #[arg(long)]
    json: bool,
    /// .jsonl, .parquet or text, plain, .gz or .zst; or folders of such.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    threads: u32,
    /// Of the files, as they lie on the disk.
    bytes: u64,
    /// Those that were read, held-out ones included.
    documents: u64,
    /// Of those documents, BOS and EOS included.
    tokens: u64,
    /// Those that were packed.
    sequences: u64,
    seconds: f64,
    /// Of these: taking the digests by which prepared data is found again.
    digesting_seconds: f64,
    tokenizing_seconds: f64,
    packing_seconds: f64,
    megabytes_per_second: f64,
    documents_per_second: f64,
    tokens_per_second: f64,
    /// The most bytes that were resident in this process; absent where the system does not tell.
    peak_memory: Option<u64>,
}

/// Everything that is prepared, but for the place.
struct Work {
    data: DataSpec,
    stages: Vec<Stage>,
    seed: u64,
    tokenizer: Tokenizer,
    mounts: Mounts,
    evaluated: Vec<String>,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let threads = arguments.threads.count();
    let Some(work) = work(arguments, &folder.path().join("tokenizer"))? else { return Ok(ExitCode::from(STOPPED)) };
    let place = folder.path().join("prepared");
    let measured = cancellable(|progress, cancelled| measure(&work, &place, threads, progress, cancelled))?;
    let Some(measured) = measured else { return Ok(ExitCode::from(STOPPED)) };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        print!("{}", measured.sentences());
    }
    Ok(ExitCode::SUCCESS)
}

/// `None` if it was called off. A job's tokenizer is learned or extended in `folder`, before the clock begins.
fn work(arguments: &Arguments, folder: &Path) -> Result<Option<Work>> {
    match (&arguments.job, &arguments.tokenizer) {
        (Some(job), _) => work_of_job(job, arguments, folder),
        (None, Some(tokenizer)) => work_of_files(tokenizer, arguments).map(Some),
        (None, None) => Err(UserError::new("name a job by --job, or files and their --tokenizer").into()),
    }
}

fn work_of_job(file: &Path, arguments: &Arguments, folder: &Path) -> Result<Option<Work>> {
    let options = JobOptions {
        file: file.to_owned(),
        output: Some(folder.to_owned()),
        mounts: arguments.mounts.clone(),
        overrides: arguments.overrides.clone(),
        threads: arguments.threads,
    };
    let job = options.read()?;
    let threads = arguments.threads.count() as usize;
    let tokenizer = cancellable(|progress, cancelled| {
        job_tokenizer(&job.job, &job.mounts, &job.folder, threads, progress, cancelled)
    })?;
    let Some(tokenizer) = tokenizer else { return Ok(None) };
    let evaluated = evaluated_datasets(&job.job);
    let TrainingJobSpec { data, stages, seed, .. } = job.job.spec;
    Ok(Some(Work { data, stages, seed, tokenizer, mounts: job.mounts, evaluated }))
}

/// Files as the only stage of a job that reads each document once.
fn work_of_files(tokenizer: &Path, arguments: &Arguments) -> Result<Work> {
    let mut datasets = Vec::new();
    for file in &arguments.files {
        let fields =
            Fields { text: arguments.text_field.clone(), prompt: arguments.prompt_field.clone(), ..Fields::default() };
        datasets.push(dataset_of(file, fields)?);
    }
    let mixture: Vec<_> = datasets.iter().map(|dataset| json!({ "dataset": dataset.name })).collect();
    let data = json!({ "sequenceLength": arguments.sequence_length, "datasets": datasets });
    let stage = json!({
        "name": "all", "buckets": 1, "mixture": mixture, "budget": { "epochs": 1 }, "batch": { "sequences": 8 },
        "optimizer": { "learningRate": "1e-4" }, "schedule": { "kind": "Constant" },
    });
    Ok(Work {
        data: serde_json::from_value(data)?,
        stages: vec![serde_json::from_value(stage)?],
        seed: 0,
        tokenizer: Tokenizer::open(tokenizer)?,
        mounts: Mounts::default(),
        evaluated: Vec::new(),
    })
}

fn measure(
    work: &Work,
    folder: &Path,
    threads: u32,
    progress: &mut dyn FnMut(Progress),
    cancelled: &AtomicBool,
) -> palimpsest_prepare::Result<Measured> {
    let request = PrepareRequest {
        data: &work.data,
        stages: &work.stages,
        seed: work.seed,
        tokenizer: &work.tokenizer,
        mounts: &work.mounts,
        folder,
        evaluated: &work.evaluated,
        threads: threads as usize,
    };
    let mut laps = Laps::begin();
    let plan = prepare(
        &request,
        &mut |step| {
            laps.hear(step.phase, step.subject, step.total);
            progress(Progress { fraction: step.fraction(), message: format!("preparing {}", step.subject) });
        },
        cancelled,
    )?;
    Ok(laps.end(&plan, threads))
}

/// How long each phase took, and how many bytes it read.
struct Laps {
    begun: Instant,
    last: Instant,
    phase: Phase,
    subject: String,
    /// Of digesting, tokenising and packing.
    seconds: [f64; 3],
    bytes: u64,
}

impl Laps {
    fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, phase: Phase::Digesting, subject: String::new(), seconds: [0.0; 3], bytes: 0 }
    }

    /// A phase's first word comes when a piece of it is done.
    fn hear(&mut self, phase: Phase, subject: &str, total: u64) {
        if phase == Phase::Tokenizing && (self.phase, self.subject.as_str()) != (phase, subject) {
            self.bytes += total;
        }
        self.phase = phase;
        subject.clone_into(&mut self.subject);
        self.lap();
    }

    fn lap(&mut self) {
        let index = match self.phase {
            Phase::Digesting => 0,
            Phase::Tokenizing => 1,
            Phase::Packing => 2,
        };
        self.seconds[index] += self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
    }

    fn end(mut self, plan: &Plan, threads: u32) -> Measured {
        self.lap();
        let seconds = self.begun.elapsed().as_secs_f64();
        let datasets = &plan.certificate.datasets;
        let documents = datasets.iter().map(|dataset| dataset.read.documents).sum();
        let tokens = datasets.iter().map(|dataset| dataset.read.tokens).sum();
        let [digesting_seconds, tokenizing_seconds, packing_seconds] = self.seconds;
        Measured {
            threads,
            bytes: self.bytes,
            documents,
            tokens,
            sequences: plan.certificate.total.sequences,
            seconds,
            digesting_seconds,
            tokenizing_seconds,
            packing_seconds,
            megabytes_per_second: self.bytes as f64 / 1e6 / seconds,
            documents_per_second: documents as f64 / seconds,
            tokens_per_second: tokens as f64 / seconds,
            peak_memory: peak_memory(),
        }
    }
}

impl Measured {
    fn sentences(&self) -> String {
        let memory =
            self.peak_memory.map_or_else(String::new, |bytes| format!("{:.0} MB resident at most\n", mega(bytes)));
        format!(
            "{:.1} MB, {} documents, {} tokens, {} sequences in {:.2} s on {} threads: {:.2} s for digests, {:.2} s for \
             tokenising, {:.2} s for packing\n{:.1} MB/s, {} documents/s, {} tokens/s\n{memory}",
            mega(self.bytes),
            words::count(self.documents),
            words::count(self.tokens),
            words::count(self.sequences),
            self.seconds,
            self.threads,
            self.digesting_seconds,
            self.tokenizing_seconds,
            self.packing_seconds,
            self.megabytes_per_second,
            words::count(self.documents_per_second.round() as u64),
            words::count(self.tokens_per_second.round() as u64),
        )
    }
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The most that was resident in this process so far, as Linux tells it.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
