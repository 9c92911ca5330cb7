//! How long lists and texts may be. The API server bounds the cost of a rule by the longest list that it could meet, so
//! each has an end, far beyond any job that we have seen.

/// Characters of a URI.
pub(crate) const URI: usize = 1024;
/// Characters of a name that the job gives to a dataset, stage or evaluation.
pub(crate) const NAME: usize = 63;
/// Characters of any other text.
pub(crate) const TEXT: usize = 253;
/// Characters of a decimal number.
pub(crate) const DECIMAL: usize = 32;
/// Datasets of a job; a mixture, a list to learn from and the evaluations can name each once.
pub(crate) const DATASETS: usize = 128;
/// Stages of a job.
pub(crate) const STAGES: usize = 16;
/// Evaluations of a job.
pub(crate) const EVALUATIONS: usize = 128;
/// Prefixes with credentials of their own.
pub(crate) const STORES: usize = 32;
/// Filters of a dataset.
pub(crate) const FILTERS: usize = 32;
/// The moments at which something is measured: there are three.
pub(crate) const MOMENTS: usize = 3;
/// The groups of parameters without weight decay: there are two.
pub(crate) const NO_DECAY: usize = 2;
/// Fields of a `config.json`, which have at most some forty.
pub(crate) const ARCHITECTURE: usize = 128;
/// Conditions of a job; there are five.
pub(crate) const CONDITIONS: usize = 16;
/// Characters of a condition's message.
pub(crate) const MESSAGE: usize = 32768;
