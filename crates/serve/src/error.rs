//! Why serving does not begin, or ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why serving does not begin, or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that is asked for cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer of the model cannot be opened.
    #[error(transparent)]
    Tokenizer(#[from] palimpsest_vocab::Error),
    /// A setting cannot be.
    #[error("{field} {reason}")]
    Setting {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An address cannot be listened at.
    #[error("cannot listen at {address}: {source}; choose another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The engine's socket cannot be listened at.
    #[error("cannot listen at {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The engine cannot be reached.
    #[error("cannot reach the engine at {}: {reason}", path.display())]
    Engine {
        /// Its socket.
        path: PathBuf,
        /// What the transport or the engine says.
        reason: String,
    },
    /// The engine's process cannot be started.
    #[error("cannot start the engine's process: {0}")]
    Spawn(io::Error),
    /// The engine's process has refused to begin.
    #[error("the engine cannot begin; what is to be mended it has said above")]
    EngineRefused,
    /// The engine's process cannot be kept running.
    #[error("{0}")]
    EngineGone(String),
    /// The engine's model cannot compute any more.
    #[error("the model has failed: {0}")]
    Model(String),
    /// The thread that computes has ended by itself.
    #[error("the engine's thread has ended by a panic")]
    Panicked,
    /// What carries gRPC has failed.
    #[error("gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The figures cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Whether serving begins, and how it ended.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the user can mend it.
    pub fn is_users(&self) -> bool {
        match self {
            Self::Tokenizer(error) => error.is_users(),
            Self::Read { .. }
            | Self::Malformed { .. }
            | Self::Setting { .. }
            | Self::Listen { .. }
            | Self::EngineRefused => true,
            _ => false,
        }
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn malformed(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Malformed { path: path.into(), reason: reason.to_string() }
    }
}

/// An error and all that it comes from, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
