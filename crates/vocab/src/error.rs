//! What can go wrong with a tokenizer, each said in one sentence.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of another crate that a caller's iterator of texts reports through us.
pub type TextError = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, naming the file, line or number at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] palimpsest_store::Error),
    /// A folder holds no tokenizer.
    #[error("{} holds no tokenizer: expected tokenizer.model, tokenizer.json or a .tiktoken file", path.display())]
    NoTokenizer {
        /// The folder.
        path: PathBuf,
    },
    /// A tokenizer file is not what its name says, or uses what we do not support.
    #[error("{} is not a tokenizer that can be used: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of a file of pieces is malformed.
    #[error("{} line {line}: {reason}; expected one object {{\"piece\": \"...\"}} a line", path.display())]
    PiecesLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The vocabulary that was asked for is too small for what it must hold.
    #[error("a vocabulary of {asked} is too small: {reason}; ask for at least {least}")]
    VocabularyTooSmall {
        /// The size asked for.
        asked: usize,
        /// The least size that would do.
        least: usize,
        /// What takes the room.
        reason: String,
    },
    /// There are fewer pieces than the vocabulary that was asked for needs.
    #[error(
        "a vocabulary of {asked} needs more pieces than there are: ask for at most {most} ({found} new pieces were found)"
    )]
    NotEnoughPieces {
        /// The size asked for.
        asked: usize,
        /// The largest size possible.
        most: usize,
        /// How many new pieces there were.
        found: usize,
    },
    /// A vocabulary that is not a SentencePiece BPE model cannot be extended.
    #[error(
        "only a SentencePiece BPE vocabulary (tokenizer.model) can be extended, and this one is {kind}: train without tokenizer.extension, or take a base with a tokenizer.model"
    )]
    CannotExtend {
        /// What it is.
        kind: String,
    },
    /// The texts to learn from could not be read.
    #[error("{0}")]
    Texts(TextError),
    /// There was nothing to learn from.
    #[error("there is no text to learn a vocabulary from")]
    NoText,
    /// The tokenizers library failed on a text.
    #[error("cannot encode a text: {0}")]
    Encode(String),
    /// The caller asked to stop.
    #[error("learning was stopped")]
    Stopped,
    /// An option is out of range.
    #[error("{0}")]
    Option(String),
}

impl Error {
    /// Whether the user can mend it, so that trying again as it is cannot help.
    pub fn is_users(&self) -> bool {
        match self {
            Self::Write(error) => error.is_users(),
            Self::Stopped => false,
            _ => true,
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path) -> impl FnOnce(String) -> Self + '_ {
        move |reason| Self::Malformed { path: path.to_owned(), reason }
    }
}
