//! What can go wrong in a job, and whose it is to mend.

use palimpsest_api::FailureReason;

/// The result of the trainer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed job.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Preparing the tokenizer or the data failed.
    #[error(transparent)]
    Prepare(#[from] palimpsest_prepare::Error),
    /// Reading prepared data failed.
    #[error(transparent)]
    Corpus(#[from] palimpsest_corpus::Error),
    /// Reading, writing or computing the model failed.
    #[error(transparent)]
    Model(palimpsest_model::Error),
    /// Reading or writing a tokenizer failed.
    #[error(transparent)]
    Vocab(#[from] palimpsest_vocab::Error),
    /// A file of the run folder could not be read or written.
    #[error(transparent)]
    Store(#[from] palimpsest_store::Error),
    /// libtorch refused.
    #[error(transparent)]
    Torch(#[from] palimpsest_torch::Error),
    /// libtorch refused a tensor operation.
    #[error("libtorch: {0}")]
    Tensor(#[from] tch::TchError),
    /// The user can mend it: a sentence that names the field or file and the remedy.
    #[error("{0}")]
    User(String),
    /// The user can mend it, and programs know it by a word: a sentence that names the field or file and the remedy.
    #[error("{message}")]
    Refused {
        /// The word.
        reason: FailureReason,
        /// The sentence.
        message: String,
    },
    /// A checkpoint lacks a part of the optimizer's state.
    #[error("the checkpoint has no optimizer state {name} of the right shape; start in another folder")]
    MissingMoment {
        /// The tensor's name.
        name: String,
    },
    /// A thread of the job's own ended before its time.
    #[error("{0}")]
    Thread(&'static str),
    /// The job was told to stop at once.
    #[error("the job was stopped")]
    Aborted,
}

impl From<palimpsest_model::Error> for Error {
    fn from(error: palimpsest_model::Error) -> Self {
        match error {
            palimpsest_model::Error::Io { path, source } => palimpsest_store::Error::io("use", &path, source).into(),
            error => Self::Model(error),
        }
    }
}

impl From<palimpsest_events::Error> for Error {
    fn from(error: palimpsest_events::Error) -> Self {
        let (path, source) = error.into_parts();
        palimpsest_store::Error::io("write", &path, source).into()
    }
}

impl Error {
    pub(crate) fn refused(reason: FailureReason, message: String) -> Self {
        Self::Refused { reason, message }
    }

    /// Whether the user can mend it, so that trying again cannot help.
    pub fn is_users(&self) -> bool {
        match self {
            Self::User(_) | Self::Refused { .. } | Self::Vocab(_) | Self::MissingMoment { .. } => true,
            Self::Prepare(error) => error.is_users(),
            Self::Corpus(error) => error.is_users(),
            Self::Model(error) => error.is_users(),
            Self::Store(error) => error.is_users(),
            Self::Torch(_) | Self::Tensor(_) | Self::Thread(_) | Self::Aborted => false,
        }
    }
}
