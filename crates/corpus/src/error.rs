//! What can go wrong between a dataset and a packed sequence, each said in one sentence with the remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed preparation, or prepared data that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A record of a dataset cannot be used.
    #[error("{place}: {problem}")]
    Record {
        /// Where it is.
        place: Place,
        /// What is wrong with it.
        problem: RecordProblem,
    },
    /// A folder holds no file of the dataset's format.
    #[error("{}: the folder holds no {wanted} file; correct the uri or the format of dataset \"{dataset}\"", path.display())]
    NoFiles {
        /// The dataset's name.
        dataset: String,
        /// The folder.
        path: PathBuf,
        /// The endings that its format takes.
        wanted: &'static str,
    },
    /// A dataset holds no document.
    #[error("{}: dataset \"{dataset}\" is empty; correct its uri or remove it", path.display())]
    EmptyDataset {
        /// The dataset's name.
        dataset: String,
        /// Its file or folder.
        path: PathBuf,
    },
    /// All of a dataset is held out, though a mixture asks for it.
    #[error(
        "dataset \"{dataset}\": all {documents} documents are held out, so that nothing is left to train on; lower \
         holdOut.fraction"
    )]
    AllHeldOut {
        /// The dataset's name.
        dataset: String,
        /// How many documents it has.
        documents: u64,
    },
    /// None of a dataset is held out, though an evaluation reads it.
    #[error(
        "dataset \"{dataset}\": none of its {documents} documents is held out, so that there is nothing to evaluate on; \
         raise holdOut.fraction"
    )]
    NoneHeldOut {
        /// The dataset's name.
        dataset: String,
        /// How many documents it has.
        documents: u64,
    },
    /// A name is not that of a dataset.
    #[error("{field}: there is no dataset \"{dataset}\"; use one of spec.data.datasets")]
    UnknownDataset {
        /// Which field names it.
        field: String,
        /// The name.
        dataset: String,
    },
    /// A stage's budget cannot be met.
    #[error("{field}: {problem}")]
    Budget {
        /// Which field.
        field: String,
        /// Why not, and what is possible.
        problem: String,
    },
    /// A dataset has more documents than can be indexed.
    #[error("dataset \"{dataset}\" has more than {} documents; divide it into several datasets", u32::MAX)]
    TooManyDocuments {
        /// The dataset's name.
        dataset: String,
    },
    /// The tokenizer has no end-of-sequence id.
    #[error(
        "the tokenizer has no end-of-sequence token, which ends each document; name one as eos_token in its \
         tokenizer_config.json"
    )]
    NoEndOfSequence,
    /// The tokenizer failed.
    #[error("the tokenizer cannot encode a text: {0}")]
    Encoder(Box<dyn std::error::Error + Send + Sync>),
    /// Prepared data is not what was written.
    #[error("{}: {reason}; remove its folder and prepare the data again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such stage or bucket.
    #[error("there is no bucket {bucket} of stage {stage}: it has {buckets} buckets; stages and buckets count from 0")]
    NoBucket {
        /// Which stage was asked for.
        stage: usize,
        /// Which of its buckets.
        bucket: usize,
        /// How many it has.
        buckets: usize,
    },
    /// A stage has fewer sequences.
    #[error("there is no sequence {index}: the stage has {sequences}, counted from 0")]
    NoSequence {
        /// Which was asked for.
        index: usize,
        /// How many there are.
        sequences: usize,
    },
    /// A URI could not be resolved or its files listed.
    #[error(transparent)]
    Store(#[from] palimpsest_store::Error),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("the preparation was stopped")]
    Cancelled,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }

    /// Whether the user can mend it, so that trying again as it is cannot help.
    pub fn is_users(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
            ),
            Self::Store(error) => error.is_users(),
            Self::Encoder(_) | Self::Cancelled => false,
            _ => true,
        }
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordProblem {
    /// A line is not JSON.
    #[error("not JSON: {0}; mend or remove the line")]
    NotJson(String),
    /// A line is JSON, but no object.
    #[error("not a JSON object but {0}; write one such as {{\"target\": \"...\"}}, or remove the line")]
    NotAnObject(&'static str),
    /// The bytes are not UTF-8.
    #[error("byte {0} is not UTF-8; convert the file to UTF-8")]
    NotUtf8(usize),
    /// There is no text.
    #[error("the record has no \"{0}\"; name the text's field in spec.data.datasets[..].fields.text")]
    NoText(String),
    /// A Parquet file lacks the column of the text.
    #[error("there is no column \"{0}\"; name the text's column in spec.data.datasets[..].fields.text")]
    NoColumn(String),
    /// A field or column holds something else than text.
    #[error(
        "\"{field}\" is {kind}, not a string; write a string, or name another field in spec.data.datasets[..].fields"
    )]
    NotAString {
        /// The field.
        field: String,
        /// What it holds.
        kind: String,
    },
    /// A text is longer than any document may be.
    #[error("the document is longer than {} MiB; divide it into several", MOST_DOCUMENT_BYTES >> 20)]
    TooLong,
    /// The file's compression is broken.
    #[error("the file cannot be decompressed: {0}; compress it again")]
    Compression(String),
    /// The file is not Parquet.
    #[error("not a Parquet file that can be read: {0}; write it again, or correct the dataset's format")]
    NotParquet(String),
    /// The prompt leaves no room for text in a sequence.
    #[error(
        "the prompt takes {prompt_ids} tokens and a sequence has {sequence_length}, so that no room is left for the \
         text; shorten the prompt or raise spec.data.sequenceLength"
    )]
    NoRoom {
        /// The ids of the prompt.
        prompt_ids: u32,
        /// Input positions of a sequence.
        sequence_length: u32,
    },
}

/// The most bytes that a document may have: its prompt and text, or the line that holds them.
pub(crate) const MOST_DOCUMENT_BYTES: usize = 1 << 28;

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// What its records are.
    pub unit: Unit,
    /// Which record, from 1; 0 for the whole file.
    pub number: u64,
}

/// What the records of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Lines.
    Line,
    /// Rows of a table.
    Row,
    /// The file itself.
    File,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.unit {
            _ if self.number == 0 => Ok(()),
            Unit::Line => write!(f, " line {}", self.number),
            Unit::Row => write!(f, " row {}", self.number),
            Unit::File => Ok(()),
        }
    }
}
