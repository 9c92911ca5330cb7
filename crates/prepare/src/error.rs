//! What can go wrong before the first step.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed preparation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or packing data failed.
    #[error(transparent)]
    Corpus(#[from] palimpsest_corpus::Error),
    /// A tokenizer could not be read, learned, extended or written.
    #[error("{field}: {source}")]
    Tokenizer {
        /// The field of the job that asks for it.
        field: &'static str,
        /// Why.
        source: palimpsest_vocab::Error,
    },
    /// A URI or file of the run folder is not usable.
    #[error(transparent)]
    Store(#[from] palimpsest_store::Error),
    /// There is no model, or no checkpoint to begin from: a sentence that names the field and the remedy.
    #[error("{0}")]
    NoModel(String),
    /// Something else is where the output shall go.
    #[error(
        "spec.output: {} is there already; choose another output, or set output.onExisting to Replace", _0.display()
    )]
    OutputExists(PathBuf),
    /// The job asks for what cannot be: a sentence that names the field and the remedy.
    #[error("{0}")]
    Job(String),
}

impl Error {
    /// Of learning for a field: one that was called off is not the tokenizer's fault.
    pub(crate) fn of_tokenizer(field: &'static str) -> impl Fn(palimpsest_vocab::Error) -> Self {
        move |source| match source {
            palimpsest_vocab::Error::Stopped => Self::Corpus(palimpsest_corpus::Error::Cancelled),
            source => Self::Tokenizer { field, source },
        }
    }

    /// Whether the user can mend it, so that trying again cannot help.
    pub fn is_users(&self) -> bool {
        match self {
            Self::Corpus(error) => error.is_users(),
            Self::Store(error) => error.is_users(),
            Self::Tokenizer { source, .. } => source.is_users(),
            Self::Job(_) | Self::NoModel(_) | Self::OutputExists(_) => true,
        }
    }
}
