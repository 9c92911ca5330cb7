//! Datasets as files: JSONL, Parquet and text, plain or compressed, read in a stream.
//!
//! A [`Source`] knows its files; [`Chunks`] cuts them into chunks of about 256 kB without looking inside; a chunk's
//! [`records`] are parsed by whoever takes it, perhaps on another thread.

mod chunks;
mod decompress;
mod in_order;
mod json;
mod parquet;
mod records;

use std::path::PathBuf;

use palimpsest_api::{Dataset, DatasetFormat, Fields};
use palimpsest_store::{Location, Mounts, list};

pub(crate) use self::chunks::{Chunk, Chunks};
pub(crate) use self::in_order::in_order;
pub(crate) use self::records::{Record, records};
use crate::error::{Error, Place, Result, Unit};

/// A dataset and its files.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) dataset: String,
    pub(crate) format: DatasetFormat,
    pub(crate) fields: Fields,
    /// The file or folder.
    pub(crate) path: PathBuf,
    /// In the order in which they are read: sorted by name.
    pub(crate) files: Vec<SourceFile>,
    /// Files of the folder with other endings than the format's, which are not read.
    pub(crate) left_out: Vec<String>,
}

/// A file of a dataset.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// Its path below the dataset's folder; its own name where the dataset is a file.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Source {
    /// Finds the files of a dataset.
    pub(crate) fn find(dataset: &Dataset, mounts: &Mounts) -> Result<Self> {
        let location = Location::parse(&dataset.uri, mounts)?;
        let is_folder = location.path().is_dir();
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        for entry in list(&location)? {
            if is_folder && !has_ending(&entry.name, dataset.format) {
                left_out.push(entry.name);
                continue;
            }
            files.push(SourceFile { name: entry.name, path: entry.location.path().to_owned(), bytes: entry.bytes });
        }
        let path = location.path().to_owned();
        if files.is_empty() {
            let wanted = wanted_endings(dataset.format);
            return Err(Error::NoFiles { dataset: dataset.name.clone(), path, wanted });
        }
        let (format, fields) = (dataset.format, dataset.fields.clone());
        Ok(Self { dataset: dataset.name.clone(), format, fields, path, files, left_out })
    }

    /// The bytes of all its files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The place of a record.
    pub(crate) fn place(&self, file: u32, number: u64) -> Place {
        Place { path: self.files[file as usize].path.clone(), unit: unit(self.format), number }
    }
}

/// What the records of a format are.
pub(crate) fn unit(format: DatasetFormat) -> Unit {
    match format {
        DatasetFormat::Jsonl => Unit::Line,
        DatasetFormat::Parquet => Unit::Row,
        DatasetFormat::Text => Unit::File,
    }
}

/// Whether a file of a folder is one of the format's. Any file of a folder can be a text.
fn has_ending(name: &str, format: DatasetFormat) -> bool {
    let lower = name.to_ascii_lowercase();
    let plain = lower.strip_suffix(".gz").or_else(|| lower.strip_suffix(".zst")).unwrap_or(&lower);
    match format {
        DatasetFormat::Jsonl => [".jsonl", ".json", ".ndjson"].iter().any(|ending| plain.ends_with(ending)),
        DatasetFormat::Parquet => [".parquet", ".pq"].iter().any(|ending| lower.ends_with(ending)),
        DatasetFormat::Text => true,
    }
}

/// The format that a file's name tells: text, where it is none of the others'.
pub(crate) fn format_of(name: &str) -> DatasetFormat {
    let formats = [DatasetFormat::Jsonl, DatasetFormat::Parquet];
    formats.into_iter().find(|format| has_ending(name, *format)).unwrap_or(DatasetFormat::Text)
}

fn wanted_endings(format: DatasetFormat) -> &'static str {
    match format {
        DatasetFormat::Jsonl => ".jsonl",
        DatasetFormat::Parquet => ".parquet",
        DatasetFormat::Text => "text",
    }
}
