//! The tokenizer that a job names: opened, learned or extended.

use std::path::{Path, PathBuf};

use palimpsest_api::{Dataset, ModelSource, TokenizerSpec, TrainingJob};
use palimpsest_corpus::{Error as CorpusError, texts};
use palimpsest_store::{Location, Mounts, list, sha256_file};
use palimpsest_vocab::{Extension, LearnOptions, PieceOptions, Tokenizer, extend, learn, learn_pieces, read_pieces};

use crate::Progress;
use crate::error::{Error, Result};

/// What a learned tokenizer's folder is named after changes with this, when learning itself does.
const LEARNER_VERSION: &str = "1";

/// A job's tokenizer.
#[derive(Debug)]
pub(crate) struct Tokenizers {
    pub(crate) base: Tokenizer,
    pub(crate) extension: Option<Extension>,
}

/// Makes the tokenizer ready. What is learned is kept below `prepared` and found again by a digest of what it was learned
/// from.
pub(crate) fn resolve(
    job: &TrainingJob,
    mounts: &Mounts,
    prepared: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tokenizers> {
    let spec = job.spec.tokenizer.clone().unwrap_or_default();
    let base = base(job, &spec, mounts, prepared, progress)?;
    let Some(wanted) = &spec.extension else {
        return Ok(Tokenizers { base, extension: None });
    };
    let field = "spec.tokenizer.extension";
    let in_error = |source| Error::Tokenizer { field, source };
    let size = wanted.vocabulary_size as usize;
    let pieces = match &wanted.pieces {
        Some(source) => read_pieces(Location::parse(&source.uri, mounts)?.path()).map_err(in_error)?,
        None => {
            let datasets = datasets(job, &wanted.learn_from)?;
            let key = key(&["extension", &base.digest(), &size.to_string()], &datasets, mounts)?;
            let kept = prepared.join("tokenizer").join(format!("{key}.pieces.jsonl"));
            if !kept.exists() {
                progress(Progress { fraction: None, message: format!("learning pieces for a vocabulary of {size}") });
                let count = size.saturating_sub(base.vocabulary_size());
                let pieces = learn_pieces(&base, all_texts(&datasets, mounts), count, &PieceOptions::default())
                    .map_err(in_error)?;
                let lines: String =
                    pieces.iter().map(|piece| format!("{}\n", serde_json::json!({ "piece": piece.text }))).collect();
                write(&kept, lines.as_bytes())?;
            }
            read_pieces(&kept).map_err(in_error)?
        }
    };
    let extension = extend(&base, &pieces, Some(size)).map_err(in_error)?;
    Ok(Tokenizers { base, extension: Some(extension) })
}

fn base(
    job: &TrainingJob,
    spec: &TokenizerSpec,
    mounts: &Mounts,
    prepared: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tokenizer> {
    if let Some(uri) = &spec.uri {
        let field = "spec.tokenizer.uri";
        return Tokenizer::open(Location::parse(uri, mounts)?.path())
            .map_err(|source| Error::Tokenizer { field, source });
    }
    if let Some(wanted) = &spec.learn {
        let in_error = |source| Error::Tokenizer { field: "spec.tokenizer.learn", source };
        let size = wanted.vocabulary_size;
        let datasets = datasets(job, &wanted.from)?;
        let key = key(&["learned", &size.to_string()], &datasets, mounts)?;
        let kept = prepared.join("tokenizer").join(&key);
        // tokenizer_config.json is written last.
        if !kept.join("tokenizer_config.json").exists() {
            progress(Progress { fraction: None, message: format!("learning a vocabulary of {size}") });
            let learned =
                learn(all_texts(&datasets, mounts), size as usize, &LearnOptions::default()).map_err(in_error)?;
            std::fs::create_dir_all(&kept).map_err(|source| palimpsest_store::Error::io("create", &kept, source))?;
            learned.save(&kept).map_err(in_error)?;
        }
        return Tokenizer::open(&kept).map_err(in_error);
    }
    let folder = model_folder(&job.spec.model, mounts)?;
    Tokenizer::open(&folder).map_err(|source| Error::Tokenizer { field: "spec.model", source })
}

/// The folder whose tokenizer is the model's own.
fn model_folder(model: &ModelSource, mounts: &Mounts) -> Result<PathBuf> {
    if let Some(uri) = &model.uri {
        return Ok(Location::parse(uri, mounts)?.path().to_owned());
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
        Error::Job(format!(
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

/// The documents of all datasets; one that has none is an error.
fn all_texts<'a>(
    datasets: &'a [&'a Dataset],
    mounts: &'a Mounts,
) -> impl Iterator<Item = Result<String, CorpusError>> + 'a {
    datasets.iter().flat_map(move |dataset| -> Box<dyn Iterator<Item = Result<String, CorpusError>>> {
        match texts(dataset, mounts).map(Iterator::peekable) {
            Ok(mut texts) => match texts.peek() {
                Some(_) => Box::new(texts),
                None => Box::new(std::iter::once(Err(empty(dataset, mounts)))),
            },
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    })
}

fn empty(dataset: &Dataset, mounts: &Mounts) -> CorpusError {
    match Location::parse(&dataset.uri, mounts) {
        Ok(location) => CorpusError::EmptyDataset { dataset: dataset.name.clone(), path: location.path().to_owned() },
        Err(error) => error.into(),
    }
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

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| palimpsest_store::Error::io("create", folder, source))?;
    }
    Ok(palimpsest_store::write_atomically(path, bytes)?)
}
