//! Hugging Face folders: `config.json`, `generation_config.json` and weights in safetensors, in one file or in shards.

mod read;
mod tensors;
mod write;

pub use tensors::{read_tensors, write_tensors};

/// The file of a model that is not sharded.
const SINGLE: &str = "model.safetensors";
/// The file that says which shard holds which tensor.
const INDEX: &str = "model.safetensors.index.json";
const GENERATION_CONFIG: &str = "generation_config.json";
