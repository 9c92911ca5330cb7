//! Serving a model: the engine's process, and the server in front of it.

mod engine;
mod memory;
mod model;

pub(crate) use engine::{Arguments as EngineArguments, run as run_engine};
pub(crate) use model::{Served, end_ids};
