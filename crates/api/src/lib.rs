//! The custom resources as plain types: what a user writes, its defaults and its rules. No client, no I/O.

mod decimal;
mod training_job;

pub use decimal::Decimal;
pub use training_job::*;
