//! Serves a model as OpenAI does, and over gRPC.
//!
//! The engine computes in a process of its own, which may crash and be started anew; the server in front of it holds what clients
//! see: text, keys, bounds, metrics. The two speak `inference.proto` over a Unix socket, in ids.
//!
//! ```text
//! clients ── HTTP, SSE ──┐                                     ┌── the engine's process ──────────────────┐
//!                        ├─► serve ── EngineLink ── a socket ──┤ serve_engine ─► a thread: Engine<M>::step │
//! clients ── gRPC ───────┘     ▲                               └──────────────────────────────────────────┘
//!                              └── EngineProcess starts it, and starts it anew when it dies
//! ```
//!
//! Nothing here knows torch: a model is whatever implements [`palimpsest_infer::Model`].

mod app;
mod blocking;
mod bodies;
mod config;
mod engine_process;
mod engine_service;
mod engine_settings;
mod error;
mod generation;
mod grpc;
mod http;
mod keys;
mod link;
mod metrics;
mod openai;
mod phase;
mod place;
mod plan;
mod random;
mod served;
mod server;
mod status;
mod teller;
mod text;
mod tls;

pub use config::{Config, ServerLimits, TlsFiles};
pub use engine_process::{EngineProcess, RestartPolicy};
pub use engine_service::{Formats, Served, parent_gone, serve_engine};
pub use engine_settings::EngineSettings;
pub use error::{Error, Result};
pub use link::EngineLink;
pub use server::{Listening, Server, serve};
pub use text::token_bytes;
