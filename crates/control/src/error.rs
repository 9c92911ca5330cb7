//! What can go wrong in serving agents.

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Each is one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The certificate or its key is of no use.
    #[error("the certificate that agents are to be shown cannot be used: {0}; give a PEM chain and its key")]
    Certificate(#[source] tonic::transport::Error),
}
