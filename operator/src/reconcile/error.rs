//! What can go wrong on a visit. It is made again, later and later.

use crate::resource::TrainingJob;

/// A result of a visit.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An answer of the API server that a visit cannot go on after.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {namespace}/{name}: {source}")]
pub(crate) struct Error {
    action: &'static str,
    namespace: String,
    name: String,
    #[source]
    source: Box<kube::Error>,
}

impl Error {
    pub(super) fn new(action: &'static str, job: &TrainingJob, source: kube::Error) -> Self {
        Self { action, namespace: job.namespace().to_owned(), name: job.name().to_owned(), source: Box::new(source) }
    }
}
