//! The custom resources as plain types: what a user writes, its defaults and its rules. No client, no I/O.
//!
//! ```text
//! YAML text --parse--> nodes with lines --overrides--> --deserialize--> TrainingJob --validate--> violations
//! ```

mod crd;
mod decimal;
mod digest;
mod failure_reason;
mod load;
mod schema;
mod training_job;
mod uri;
mod validate;
mod yaml;

pub use crd::{crds, crds_yaml, pod_template_schema, training_job_crd};
pub use decimal::Decimal;
pub use digest::{differing_fields, result_digest};
pub use failure_reason::FailureReason;
pub use load::{LoadError, load};
pub use schema::training_job_schema;
pub use training_job::*;
pub use uri::{Scheme, Uri, UriError};
pub use validate::{MAXIMUM_TIME_LABEL, Place, QUEUE_LABEL, Violation, unsupported, validate};
