//! Serving a model: the engine's process. The server in front of it needs no libtorch.

mod engine;
mod memory;
mod model;

pub(crate) use engine::{Arguments as EngineArguments, load as load_engine, run as run_engine};
pub(crate) use model::{Served, end_ids};
