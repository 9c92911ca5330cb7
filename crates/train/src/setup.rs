//! Makes the model that the first step begins from, and refuses a job that cannot work before anything is written.

use palimpsest_api::{CheckpointState, EmbeddingInitialization, FailureReason, ModelSource, Precision, TrainingJob};
use palimpsest_model::{Config, Decoder, Initialization};
use palimpsest_prepare::{PreparedJob, check_context, check_vocabulary};
use palimpsest_store::{Location, Mounts};
use palimpsest_vocab::Tokenizer;
use tch::{Device, Kind};

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::optimizer::Moments;

/// The kinds of the masters and of the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) masters: Kind,
    pub(crate) compute: Kind,
}

/// Resolves `Auto` once: as `recorded` in the checkpoint that the job goes on from, else BFloat16 on CUDA, and Float32 on
/// a CPU, where bfloat16 may be 100 times slower than float32.
pub(crate) fn kinds(precision: Precision, device: Device, recorded: Option<&str>) -> Kinds {
    let resolved = match (precision, recorded) {
        (Precision::Auto, Some("BFloat16")) => Precision::BFloat16,
        (Precision::Auto, None) if device.is_cuda() => Precision::BFloat16,
        (precision, _) => precision,
    };
    match resolved {
        Precision::BFloat16 => Kinds { masters: Kind::Float, compute: Kind::BFloat16 },
        Precision::Auto | Precision::Float32 => Kinds { masters: Kind::Float, compute: Kind::Float },
        Precision::Float64 => Kinds { masters: Kind::Double, compute: Kind::Double },
    }
}

/// What the first step begins from.
pub(crate) struct Base {
    /// The model before its vocabulary is extended.
    pub(crate) model: Decoder,
    /// The optimizer's state of another job's checkpoint, where the job takes that over.
    pub(crate) moments: Option<Moments>,
}

/// The model and, where the job asks for them, the moments that it names.
pub(crate) fn base(
    job: &TrainingJob,
    mounts: &Mounts,
    prepared: &PreparedJob,
    device: Device,
    kind: Kind,
) -> Result<Base> {
    let base_tokenizer = prepared.base_tokenizer.as_ref().unwrap_or(&prepared.tokenizer);
    let mut moments = None;
    let model = match &job.spec.model {
        ModelSource { uri: Some(uri), .. } => {
            let folder = local(uri, mounts)?;
            if !folder.exists() {
                let message =
                    format!("spec.model.uri: there is no folder {} (\"{uri}\"); check the path", folder.display());
                return Err(Error::refused(FailureReason::ModelNotFound, message));
            }
            Decoder::open(&folder, device, kind)?
        }
        ModelSource { architecture: Some(architecture), .. } => {
            let config = architecture_config(architecture, base_tokenizer)?;
            Decoder::random(&config, job.spec.seed, device, kind)?
        }
        ModelSource { checkpoint: Some(source), .. } => {
            let root = local(&source.uri, mounts)?;
            let found = checkpoint::newest(&root, source.step, |_| {})?;
            let Some(found) = found else {
                let which = source.step.map_or_else(String::new, |step| format!(" of step {step}"));
                let message = format!(
                    "spec.model.checkpoint.uri: {} holds no whole checkpoint{which}; name a folder of checkpoints",
                    root.display()
                );
                return Err(Error::refused(FailureReason::ModelNotFound, message));
            };
            if source.state == CheckpointState::Full {
                moments = Some(found.optimizer()?);
            }
            found.model(device, kind)?
        }
        ModelSource { .. } => {
            return Err(Error::User("spec.model: name exactly one of uri, architecture and checkpoint".to_owned()));
        }
    };
    let Config { vocab_size, max_position_embeddings, .. } = model.config;
    check_vocabulary(vocab_size as u64, base_tokenizer.vocabulary_size(), prepared.extension.is_some())?;
    check_context(max_position_embeddings as u64, job.spec.data.sequence_length)?;
    Ok(Base { model, moments })
}

/// Appends the rows of the extension, if there is one.
pub(crate) fn extend_vocabulary(job: &TrainingJob, prepared: &PreparedJob, model: &mut Decoder) -> Result<()> {
    let Some(extension) = &prepared.extension else { return Ok(()) };
    let choice = job.spec.tokenizer.as_ref().and_then(|tokenizer| tokenizer.extension.as_ref());
    let initialization = match choice.map(|extension| extension.embeddings).unwrap_or_default() {
        EmbeddingInitialization::Mean => Initialization::Mean,
        EmbeddingInitialization::Random => Initialization::Random,
    };
    Ok(model.resize_vocabulary(&extension.sources, initialization, job.spec.seed)?)
}

pub(crate) fn local(uri: &str, mounts: &Mounts) -> Result<std::path::PathBuf> {
    Ok(Location::parse(uri, mounts)?.path().to_owned())
}

/// The architecture's config with the vocabulary and special ids of the tokenizer where it leaves them out.
fn architecture_config(
    architecture: &serde_json::Map<String, serde_json::Value>,
    tokenizer: &Tokenizer,
) -> Result<Config> {
    let mut fields = architecture.clone();
    fields.entry("vocab_size").or_insert_with(|| tokenizer.vocabulary_size().into());
    for (key, id) in [("bos_token_id", tokenizer.bos()), ("eos_token_id", tokenizer.eos())] {
        if let Some(id) = id {
            fields.entry(key).or_insert_with(|| id.into());
        }
    }
    Ok(Config::from_json(&fields, "spec.model.architecture")?)
}
