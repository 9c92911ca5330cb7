//! The custom resources as plain types: what a user writes, its defaults and its rules. No client, no I/O.
//!
//! ```text
//! YAML text --parse--> nodes with lines --overrides--> --deserialize--> TrainingJob --validate--> violations
//! ```

mod decimal;
mod load;
mod training_job;
mod uri;
mod validate;
mod yaml;

pub use decimal::Decimal;
pub use load::{LoadError, load};
pub use training_job::*;
pub use uri::{Scheme, Uri, UriError};
pub use validate::{Violation, unsupported, validate};
