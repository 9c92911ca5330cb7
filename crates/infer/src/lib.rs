//! Serving a model: which tokens of which requests each step computes, where their keys and values lie, and how tokens are drawn.
//!
//! An [`Engine`] puts the parts together around a [`Model`]. It reads no clock and does no I/O: whoever drives it measures.
//!
//! ```text
//! submit ──► waiting ──► running ──► plan ──► the model ──► draw ──► complete ──► the next token, or the end
//!               ▲           │         │
//!               └─preempted─┘         └── blocks of the cache, shared by requests that begin alike
//! ```

mod blocks;
mod constraint;
mod engine;
mod error;
mod figures;
mod format;
mod grammars;
mod limits;
mod logprobs;
mod model;
mod request;
mod sampler;
mod scheduler;
mod sequence;
mod task;
mod work;

pub use blocks::BlockId;
pub use constraint::Constraint;
pub use engine::Engine;
pub use error::{Error, Result};
pub use figures::Figures;
pub use format::Format;
pub use grammars::Grammars;
pub use limits::Limits;
pub use logprobs::Logprobs;
pub use model::Model;
pub use request::{Request, RequestId};
pub use sampler::{Sampler, Sampling, Scratch};
pub use scheduler::Scheduler;
pub use task::{Event, Finish, Task};
pub use work::{Next, Wanted, Work};
