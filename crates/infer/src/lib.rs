//! Serving a model: which tokens of which requests each step computes, and where their keys and values lie.
//!
//! ```text
//! submit ──► waiting ──► running ──► plan ──► the model ──► complete ──► the next token, or the end
//!               ▲           │         │
//!               └─preempted─┘         └── blocks of the cache, shared by requests that begin alike
//! ```

mod blocks;
mod error;
mod limits;
mod scheduler;
mod sequence;

pub use blocks::BlockId;
pub use error::{Error, Result};
pub use limits::Limits;
pub use scheduler::{Figures, Next, Request, RequestId, Scheduler, Work};
