//! What can go wrong with a model.

use std::path::{Path, PathBuf};

/// An error of this crate, one sentence that names the file, tensor or key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A config asks for what there is not, or contradicts itself.
    #[error("{origin}: {key}: {problem}")]
    Config {
        /// The file or field that holds the config.
        origin: String,
        /// The key.
        key: String,
        /// What is wrong and what would do.
        problem: String,
    },
    /// A file of weights is not what the config calls for.
    #[error("{}: {problem}", path.display())]
    Weights {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, naming the tensor.
        problem: String,
    },
    /// A call that the model cannot serve.
    #[error("{0}")]
    Invalid(String),
    /// libtorch failed.
    #[error(transparent)]
    Torch(#[from] palimpsest_torch::Error),
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Tch(#[from] tch::TchError),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the user can mend it, so that trying again as it is cannot help.
    pub fn is_users(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() != std::io::ErrorKind::Other,
            Self::Config { .. } | Self::Weights { .. } | Self::Invalid(_) => true,
            Self::Torch(_) | Self::Tch(_) => false,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }

    pub(crate) fn weights(path: &Path, problem: impl Into<String>) -> Self {
        Self::Weights { path: path.to_owned(), problem: problem.into() }
    }
}
