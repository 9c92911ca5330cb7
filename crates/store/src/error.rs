//! What can go wrong between a URI and its bytes.

use std::io;
use std::path::{Path, PathBuf};

use palimpsest_api::{Scheme, UriError};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Each is one sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No URI, or one with an unknown scheme.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A scheme that exists, but not here.
    #[error("{scheme}:// is not available in this build (\"{uri}\"); copy it here and use file:// or pvc://")]
    Unavailable {
        /// The scheme.
        scheme: Scheme,
        /// The whole URI.
        uri: String,
    },
    /// A claim of which this machine does not know the folder.
    #[error("the claim \"{claim}\" of \"{uri}\" is not mounted here; pass --mount {claim}=DIR")]
    NotMounted {
        /// The claim's name.
        claim: String,
        /// The whole URI.
        uri: String,
    },
    /// There is nothing at the URI.
    #[error("there is no file or folder {}{}; check the path", path.display(), of_uri(uri))]
    NotFound {
        /// The URI, where it was not the path itself.
        uri: Option<String>,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The disk or the quota is used up. What was there is as it was.
    #[error("the disk is full while writing {}; make room and run again: what was there is intact", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// There is something where something new was to be written.
    #[error("{} exists already; remove it or choose another place", path.display())]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// A newer attempt at the same job has begun.
    #[error("attempt {attempt} is over: attempt {newest} has been begun elsewhere; nothing more is written here")]
    Superseded {
        /// The attempt that is over.
        attempt: u64,
        /// The newest that is claimed.
        newest: u64,
    },
    /// Another job's worker lives and has the folder.
    #[error(
        "the checkpoints in {} are in use by the job \"{job}\" ({holder}); wait for its end, or choose another \
         checkpoint.uri", folder.display()
    )]
    InUse {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// The other job's name.
        job: String,
        /// Its process.
        holder: String,
    },
    /// The caller did not want to wait any more.
    #[error("the wait for the checkpoints was called off")]
    Interrupted,
    /// Not allowed to read or write there.
    #[error("cannot {action} {}: {source}; give yourself the right to, or choose another place", path.display())]
    Forbidden {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Anything else that the file system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// The error of trying to `action` `path`.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::NotFound => Self::NotFound { uri: None, path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Forbidden { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Whether the disk or a quota is used up.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Whether the user can mend it: by another URI, a mount, a free path, more rights or more room.
    pub fn is_users(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Superseded { .. } | Self::Interrupted)
    }
}

fn of_uri(uri: &Option<String>) -> String {
    uri.as_ref().map(|uri| format!(" (\"{uri}\")")).unwrap_or_default()
}
