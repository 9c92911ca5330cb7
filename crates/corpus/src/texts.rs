//! Documents straight from their files: what a tokenizer is learned from, what a model is measured on.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use palimpsest_api::{Dataset, DatasetFormat, Fields};
use palimpsest_store::{Location, Mounts, list};

use crate::encoder::{EncodedDocument, TextEncoder};
use crate::error::{Error, Result};
use crate::hold_out::HoldOutThreshold;
use crate::source::{Chunks, Record, Source, format_of, records};

/// The documents of a dataset, each as one string, prompt and text; held-out ones are left out. They are read from the
/// files as they are asked for.
pub fn texts(dataset: &Dataset, mounts: &Mounts) -> Result<Texts> {
    Ok(Texts { threshold: HoldOutThreshold::of(dataset), records: Records::open(dataset, mounts)? })
}

/// The documents of datasets, one after the other, each as [`texts`] gives it. A dataset that has none is an error.
pub fn all_texts<'a>(
    datasets: impl IntoIterator<Item = &'a Dataset, IntoIter: 'a>,
    mounts: &'a Mounts,
) -> impl Iterator<Item = Result<String>> + 'a {
    datasets.into_iter().flat_map(move |dataset| -> Box<dyn Iterator<Item = Result<String>>> {
        let texts = match texts(dataset, mounts) {
            Ok(texts) => texts,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let path = texts.records.source.path.clone();
        let mut texts = texts.peekable();
        if texts.peek().is_none() {
            let empty = Error::EmptyDataset { dataset: dataset.name.clone(), path };
            return Box::new(std::iter::once(Err(empty)));
        }
        Box::new(texts)
    })
}

/// A file or folder outside a job as a dataset, called by its path. The format is what its name tells, or that of the
/// first file of the folder.
pub fn dataset_of(path: &Path, fields: Fields) -> Result<Dataset> {
    let absolute = std::path::absolute(path).map_err(Error::io("find", path))?;
    let files = list(&Location::local(&absolute))?;
    let format = files.first().map_or(DatasetFormat::Text, |file| format_of(&file.name));
    Ok(Dataset {
        name: path.display().to_string(),
        uri: format!("file://{}", absolute.display()),
        format,
        fields,
        language: None,
        hold_out: None,
        preparation: None,
    })
}

/// The files of a dataset's folder that are not read, since they are not of its format.
pub fn left_out_files(dataset: &Dataset, mounts: &Mounts) -> Result<Vec<String>> {
    Ok(Source::find(dataset, mounts)?.left_out)
}

/// What a person should know of files that are not read; nothing where there are none.
pub fn left_out_warning(dataset: &str, format: DatasetFormat, files: &[String]) -> Option<String> {
    let (first, others) = files.split_first()?;
    let others = match others.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!("dataset \"{dataset}\" is read as {format:?}: {first}{others} in its folder left out"))
}

/// All documents of a dataset in the ids of a tokenizer, held-out ones and others. They are read from the files as they
/// are asked for.
pub fn documents<'a>(
    dataset: &Dataset,
    mounts: &Mounts,
    encoder: &'a dyn TextEncoder,
) -> Result<impl Iterator<Item = Result<EncodedDocument>> + use<'a>> {
    let records = Records::open(dataset, mounts)?;
    Ok(records.map(move |record| record.and_then(|record| EncodedDocument::new(record.prompt, record.text, encoder))))
}

/// A document as one string, prompt and text, unless it is held out.
pub(crate) fn text_of(record: Record, threshold: HoldOutThreshold) -> Option<String> {
    (!threshold.holds_out(&record.text)).then(|| record.prompt + &record.text)
}

/// See [`texts`].
#[derive(Debug)]
pub struct Texts {
    threshold: HoldOutThreshold,
    records: Records,
}

impl Iterator for Texts {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            if let Some(text) = text_of(record, self.threshold) {
                return Some(Ok(text));
            }
        }
    }
}

/// The records of a dataset, up to the first error.
struct Records {
    source: Arc<Source>,
    chunks: Chunks,
    ready: VecDeque<Record>,
    /// What ends it, once the records before it are taken.
    error: Option<Error>,
    is_over: bool,
}

impl Records {
    fn open(dataset: &Dataset, mounts: &Mounts) -> Result<Self> {
        let source = Arc::new(Source::find(dataset, mounts)?);
        let chunks = Chunks::new(source.clone(), Arc::new(AtomicU64::new(0)));
        Ok(Self { source, chunks, ready: VecDeque::new(), error: None, is_over: false })
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(Ok(record));
            }
            if let Some(error) = self.error.take() {
                return Some(Err(error));
            }
            if self.is_over {
                return None;
            }
            let ready = &mut self.ready;
            let parsed = self.chunks.next()?.and_then(|chunk| {
                records(&self.source, chunk, &mut |record| {
                    ready.push_back(record);
                    Ok(())
                })
            });
            self.error = parsed.err();
            self.is_over = self.error.is_some();
        }
    }
}
