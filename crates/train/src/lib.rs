//! Trains a job's stages over its prepared data, resumes at the exact step, and publishes the model.

mod attempts;
mod bench;
mod checkpoint;
mod control;
mod dataset_loss;
mod error;
mod evaluate;
mod export;
mod fingerprint;
mod finish;
mod flops;
mod job;
mod optimizer;
mod pace;
mod profile;
mod publish;
mod reason;
mod records;
mod schedule;
mod setup;
mod spikes;
mod step;
mod summary;
mod telemetry;
mod trainer;

pub use bench::BenchmarkModel;
pub use control::{Control, Event, Outcome, Phase, PlannedStage, Progress};
pub use error::{Error, Result};
pub use export::export;
pub use fingerprint::Fingerprint;
pub use flops::matrix_flops_per_second;
pub use job::{RunContext, run};
pub use records::{EvaluationRecord, Moment, StepParts, StepRecord};
pub use schedule::learning_rate;
