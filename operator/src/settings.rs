//! What an installation of the operator says of every job's children.

/// What an installation says of every job's children.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The workers' image, where a job's template names none.
    pub(crate) worker_image: String,
    /// Where agents dial, `https://HOST:PORT`.
    pub(crate) coordinator: String,
    /// The certificate that agents trust, as PEM.
    pub(crate) certificate_authority: String,
}
