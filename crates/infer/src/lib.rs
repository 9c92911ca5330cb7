//! Serving a model: which tokens of which requests each step computes, where their keys and values lie, and how tokens are drawn.
//!
//! An [`Engine`] puts the parts together around a [`Model`].
//!
//! ```text
//! submit ──► waiting ──► running ──► plan ──► the model ──► draw ──► complete ──► the next token, or the end
//!               ▲           │         │
//!               └─preempted─┘         └── blocks of the cache, shared by requests that begin alike
//! ```

mod blocks;
mod engine;
mod error;
mod limits;
mod sampler;
mod scheduler;
mod sequence;

pub use blocks::BlockId;
pub use engine::{Engine, Event, Finish, Model, Task};
pub use error::{Error, Result};
pub use limits::Limits;
pub use sampler::{Sampler, Sampling};
pub use scheduler::{Figures, Next, Request, RequestId, Scheduler, Work};
