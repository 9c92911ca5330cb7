//! The coordinator's side of the protocol with agents, for whoever drives coordinators: `palimpsest run` drives one on
//! loopback, an operator many over TLS.
//!
//! ```text
//! agents ── Control.Attach ──► serve: asks Authenticate who it is
//!                                │ Heard, of all jobs
//!                                ▼
//!                              the driver: which job is it?
//!                                │ Observation                            ▲ commands
//!                                ▼                                        │
//!                              Session: Coordinator, and the streams to the job's agents
//! ```
//!
//! A server knows nothing of jobs, and a session nothing of sockets: the driver carries what is heard from one to the other.

mod authenticate;
mod error;
mod heard;
mod server;
mod session;
mod translate;

pub use authenticate::{Authenticate, Caller, Loopback, Refusal};
pub use error::{Error, Result};
pub use heard::{Attached, Commands, Heard, LinkId, Reported};
pub use server::serve;
pub use session::Session;
/// A certificate with its key.
pub use tonic::transport::Identity;
