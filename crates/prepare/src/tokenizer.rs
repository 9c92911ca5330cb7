//! The tokenizer that a job names: opened, learned or extended.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use palimpsest_api::{Dataset, ModelSource, TokenizerSpec, TrainingJob};
use palimpsest_store::{Location, Mounts, list, publish_folder, sha256_file};
use palimpsest_vocab::{Extension, Tokenizer, extend, read_pieces};

use crate::Progress;
use crate::error::{Error, Result};
use crate::learn::{learn_extension, learn_vocabulary};
use crate::watch::Watch;

/// What a learned tokenizer's folder is named after changes with this, when learning itself does.
const LEARNER_VERSION: &str = "1";

/// A job's tokenizer.
#[derive(Debug)]
pub(crate) struct Tokenizers {
    pub(crate) base: Tokenizer,
    pub(crate) extension: Option<Extension>,
}

/// Makes the tokenizer ready, on so many threads. What is learned is kept below `prepared` and found again by a digest of
/// what it was learned from.
pub(crate) fn resolve(
    job: &TrainingJob,
    mounts: &Mounts,
    prepared: &Path,
    threads: usize,
    progress: &mut dyn FnMut(Progress),
    cancelled: &AtomicBool,
) -> Result<Tokenizers> {
    let spec = job.spec.tokenizer.clone().unwrap_or_default();
    let base = base(job, &spec, mounts, prepared, threads, progress, cancelled)?;
    let Some(wanted) = &spec.extension else {
        return Ok(Tokenizers { base, extension: None });
    };
    let in_error = Error::of_tokenizer("spec.tokenizer.extension");
    let size = wanted.vocabulary_size as usize;
    let pieces = match &wanted.pieces {
        Some(source) => read_pieces(Location::parse(&source.uri, mounts)?.path()).map_err(&in_error)?,
        None => {
            let datasets = datasets(job, &wanted.learn_from)?;
            let key = key(&["extension", &base.digest(), &size.to_string()], &datasets, mounts)?;
            let kept = prepared.join("tokenizer").join(format!("{key}.pieces.jsonl"));
            if !kept.exists() {
                let message = format!("learning pieces for a vocabulary of {size}");
                let mut watch = Watch::begin(progress, cancelled, message);
                let count = size.saturating_sub(base.vocabulary_size());
                let pieces = learn_extension(&base, &datasets, mounts, count, threads, &mut || watch.go_on());
                let pieces = pieces.map_err(&in_error)?;
                let lines: String =
                    pieces.iter().map(|piece| format!("{}\n", serde_json::json!({ "piece": piece.text }))).collect();
                write(&kept, lines.as_bytes())?;
            }
            read_pieces(&kept).map_err(&in_error)?
        }
    };
    let extension = extend(&base, &pieces, Some(size)).map_err(&in_error)?;
    Ok(Tokenizers { base, extension: Some(extension) })
}

fn base(
    job: &TrainingJob,
    spec: &TokenizerSpec,
    mounts: &Mounts,
    prepared: &Path,
    threads: usize,
    progress: &mut dyn FnMut(Progress),
    cancelled: &AtomicBool,
) -> Result<Tokenizer> {
    if let Some(uri) = &spec.uri {
        let field = "spec.tokenizer.uri";
        return Tokenizer::open(Location::parse(uri, mounts)?.path())
            .map_err(|source| Error::Tokenizer { field, source });
    }
    if let Some(wanted) = &spec.learn {
        let in_error = Error::of_tokenizer("spec.tokenizer.learn");
        let size = wanted.vocabulary_size;
        let datasets = datasets(job, &wanted.from)?;
        let key = key(&["learned", &size.to_string()], &datasets, mounts)?;
        let kept = prepared.join("tokenizer").join(&key);
        if !kept.exists() {
            let mut watch = Watch::begin(progress, cancelled, format!("learning a vocabulary of {size}"));
            let learned = learn_vocabulary(&datasets, mounts, size as usize, threads, &mut || watch.go_on());
            keep(&learned.map_err(&in_error)?, &kept)?;
        }
        return Tokenizer::open(&kept).map_err(&in_error);
    }
    let folder = model_folder(&job.spec.model, mounts)?;
    Tokenizer::open(&folder).map_err(|source| Error::Tokenizer { field: "spec.model", source })
}

/// The folder whose tokenizer is the model's own.
fn model_folder(model: &ModelSource, mounts: &Mounts) -> Result<PathBuf> {
    if let Some(uri) = &model.uri {
        let folder = Location::parse(uri, mounts)?.path().to_owned();
        if !folder.exists() {
            let sentence =
                format!("spec.model.uri: there is no folder {} (\"{uri}\"); check the path", folder.display());
            return Err(Error::NoModel(sentence));
        }
        return Ok(folder);
    }
    let Some(checkpoint) = &model.checkpoint else {
        return Err(Error::Job(
            "spec.tokenizer: a model from random weights has no tokenizer of its own; give tokenizer.uri or tokenizer.learn"
                .to_owned(),
        ));
    };
    let root = Location::parse(&checkpoint.uri, mounts)?.path().to_owned();
    let entries = std::fs::read_dir(&root).map_err(|source| palimpsest_store::Error::io("read", &root, source))?;
    let steps = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let step: u64 = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        path.join("manifest.json").exists().then_some((step, path))
    });
    let newest = steps.filter(|(step, _)| checkpoint.step.is_none_or(|wanted| wanted == *step)).max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        Error::NoModel(format!(
            "spec.model.checkpoint: {} holds no such checkpoint; name a folder of checkpoints",
            root.display()
        ))
    })
}

fn datasets<'a>(job: &'a TrainingJob, names: &[String]) -> Result<Vec<&'a Dataset>> {
    let find = |name: &String| {
        job.spec.data.datasets.iter().find(|dataset| dataset.name == *name).ok_or_else(|| {
            Error::Job(format!("spec.tokenizer: there is no dataset \"{name}\"; use one of spec.data.datasets"))
        })
    };
    names.iter().map(find).collect()
}

/// A digest of the datasets' content, of how they are read, and of what is learned from them.
fn key(parts: &[&str], datasets: &[&Dataset], mounts: &Mounts) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    add(LEARNER_VERSION);
    parts.iter().for_each(|part| add(part));
    for dataset in datasets {
        let held_out = dataset.hold_out.as_ref().map_or("0".to_owned(), |hold_out| hold_out.fraction.to_string());
        add(&format!("{:?} {:?} {held_out}", dataset.format, dataset.fields));
        for entry in list(&Location::parse(&dataset.uri, mounts)?)? {
            add(&entry.name);
            add(&sha256_file(entry.location.path())?);
        }
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

/// Saves a tokenizer in a folder that appears whole. Other jobs may learn the same one into the same place: whoever is
/// first stays.
fn keep(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let failed = |source| palimpsest_store::Error::io("create", parent, source);
    std::fs::create_dir_all(parent).map_err(failed)?;
    let staging = tempfile::Builder::new()
        .prefix(".writing-")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(failed)?;
    tokenizer.save(staging.path()).map_err(Error::of_tokenizer("spec.tokenizer.learn"))?;
    match publish_folder(staging.path(), folder, false) {
        Err(palimpsest_store::Error::Exists { .. }) => Ok(()),
        published => Ok(published?),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| palimpsest_store::Error::io("create", folder, source))?;
    }
    Ok(palimpsest_store::write_atomically(path, bytes)?)
}
