//! TensorBoard event files of scalars, written beside `metrics.jsonl`.
//!
//! A file is a series of records, each a protocol buffer `Event` in the TFRecord frame:
//!
//! ```text
//! length: u64 | masked crc32c of length: u32 | event: length bytes | masked crc32c of event: u32
//! ```
//!
//! A file is never written again. An attempt that goes on from a checkpoint begins a new one, whose first events tell
//! TensorBoard to forget what earlier files say of the steps that are done again.

mod message;
mod record;
mod writer;

pub use writer::{Error, EventWriter, Result};
