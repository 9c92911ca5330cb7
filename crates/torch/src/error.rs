//! What can go wrong in libtorch.

/// An exception of libtorch, as its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libtorch: {0}")]
pub struct Error(pub(crate) String);

/// The result of a call into libtorch.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self(error.to_string())
    }
}
