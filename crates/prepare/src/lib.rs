//! Makes a job's tokenizer and compiles its plan, or finds both where an earlier run left them. No torch.

mod checks;
mod error;
mod learn;
mod measure;
mod shape;
mod tokenizer;
mod watch;

use std::sync::atomic::AtomicBool;

use palimpsest_api::TrainingJob;
use palimpsest_corpus::{Phase, Plan, PrepareRequest, left_out_warning, prepare};
use palimpsest_store::{Mounts, RunFolder};
use palimpsest_vocab::{Extension, Tokenizer};

pub use checks::{ExistingOutput, OUTPUT_MANIFEST, check_context, check_output, check_vocabulary, check_warm_up};
pub use error::{Error, Result};
pub use learn::{learn_extension, learn_vocabulary};
pub use measure::Measurement;
pub use shape::Shape;

/// A job that is ready for its first step.
#[derive(Debug)]
pub struct PreparedJob {
    /// The tokenizer that the data is in.
    pub tokenizer: Tokenizer,
    /// The tokenizer before its extension; `None` where there is no extension.
    pub base_tokenizer: Option<Tokenizer>,
    /// What the extension appended.
    pub extension: Option<Extension>,
    /// What is trained on, step by step.
    pub plan: Plan,
    /// The tokenizer, before and after its extension, on the text of each language.
    pub measurements: Vec<Measurement>,
}

/// How far a preparation is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The share that is done of what the message names, where known.
    pub fraction: Option<f64>,
    /// What is being done.
    pub message: String,
}

/// A job's tokenizer, learned or extended below `folder` where it is not there yet, on so many threads.
pub fn job_tokenizer(
    job: &TrainingJob,
    mounts: &Mounts,
    folder: &RunFolder,
    threads: usize,
    progress: &mut dyn FnMut(Progress),
    cancelled: &AtomicBool,
) -> Result<Tokenizer> {
    let tokenizers = tokenizer::resolve(job, mounts, &folder.prepared(), threads, progress, cancelled)?;
    Ok(tokenizers.extension.map_or(tokenizers.base, |extension| extension.tokenizer))
}

/// The datasets whose held-out part a job is evaluated on.
pub fn evaluated_datasets(job: &TrainingJob) -> Vec<String> {
    let datasets = job.spec.evaluation.iter().filter_map(|evaluation| evaluation.bits_per_byte.as_ref());
    datasets.map(|bits_per_byte| bits_per_byte.dataset.clone()).collect()
}

/// Prepares a job into `folder`, on so many threads. Where it was prepared there before nothing is done again.
pub fn prepare_job(
    job: &TrainingJob,
    mounts: &Mounts,
    folder: &RunFolder,
    threads: usize,
    progress: &mut dyn FnMut(Progress),
    cancelled: &AtomicBool,
) -> Result<PreparedJob> {
    progress(Progress { fraction: None, message: "making the tokenizer ready".to_owned() });
    let tokenizers = tokenizer::resolve(job, mounts, &folder.prepared(), threads, progress, cancelled)?;
    let (tokenizer, base_tokenizer, extension) = match tokenizers.extension {
        Some(extension) => (extension.tokenizer.clone(), Some(tokenizers.base), Some(extension)),
        None => (tokenizers.base, None, None),
    };
    let evaluated = evaluated_datasets(job);
    let data = folder.prepared();
    let request = PrepareRequest {
        data: &job.spec.data,
        stages: &job.spec.stages,
        seed: job.spec.seed,
        tokenizer: &tokenizer,
        mounts,
        folder: &data,
        evaluated: &evaluated,
        threads,
    };
    let plan = prepare(
        &request,
        &mut |step| {
            let doing = match step.phase {
                Phase::Digesting => "reading",
                Phase::Tokenizing => "tokenising",
                Phase::Packing => "packing",
            };
            progress(Progress { fraction: step.fraction(), message: format!("{doing} {}", step.subject) });
        },
        cancelled,
    )?;
    for dataset in &plan.datasets {
        if let Some(warning) = left_out_warning(&dataset.name, dataset.format, &dataset.left_out_files) {
            tracing::warn!("{warning}");
        }
    }
    let table = measure::Table { job, mounts, plan: &plan, tokenizer: &tokenizer, base: base_tokenizer.as_ref() };
    let measurements = table.rows(progress, cancelled)?;
    Ok(PreparedJob { tokenizer, base_tokenizer, extension, plan, measurements })
}
