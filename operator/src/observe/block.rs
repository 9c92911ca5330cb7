//! What keeps a job from going on, in the words of a condition.

/// What keeps a job from going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// One CamelCase word, which `kubectl get` shows as State.
    pub(crate) reason: &'static str,
    /// What is the matter, as whoever refuses says it.
    pub(crate) message: String,
}

impl Block {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
