//! Decoder architectures of the LLaMA family, read from and written to Hugging Face folders.
//!
//! A [`Decoder`] holds the weights under transformers' names. Its passes are written out by hand, forward and backward,
//! rather than recorded by autograd: a layer keeps exactly what its own backward pass reads (see [`Checkpointing`]),
//! weight gradients are accumulated by the matrix products themselves, and the loss never holds the full logits.
//!
//! ```text
//! Batch -> embedding -> layers (norm, attention, norm, SwiGLU) -> norm -> head + loss, chunk by chunk
//!              <------------------- gradients, added to each parameter's .grad <-------'
//! ```

// The integration tests' support module, which unit tests share, names the crate as they do.
#[cfg(test)]
extern crate self as palimpsest_model;

mod attention;
mod backward;
mod batch;
mod cached;
mod config;
mod decoder;
mod error;
mod folder;
mod forward;
mod group;
mod layer;
mod loss;
mod rope;
mod vocabulary;
mod weights;

pub use batch::{Batch, IGNORED, Row};
pub use cached::{CachedDecoder, NewTokens, Wanted};
pub use config::{Config, RopeScaling};
pub use decoder::{Decoder, Parameter};
pub use error::{Error, Result};
pub use folder::{read_tensors, write_tensors};
pub use forward::{Checkpointing, ForwardOptions};
pub use loss::{LossSum, Pass};
pub use vocabulary::Initialization;
