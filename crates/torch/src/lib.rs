//! The only unsafe crate: what tch lacks, as a small C++ shim over libtorch.
//!
//! Everything public here is safe: the shim checks kinds and shapes itself, and a C++ exception comes back as an
//! [`Error`] with its message.

mod attention;
mod autograd;
mod cache;
mod error;
mod ffi;
mod files;
mod kernels;
mod memory;
mod optimizer;
mod profiler;
mod runtime;
mod span;

pub use attention::{Attended, AttentionHeads, attention, attention_backward};
pub use autograd::{backward, grad, set_gradient};
pub use cache::{BLOCK_POSITIONS, CachedLayer, CachedSpan, cached_attention};
pub use error::{Error, Result};
pub use files::{MappedFile, copy_elements, map_file};
pub use kernels::{
    Rotation, cross_entropy, embedding_backward, rms_norm, rms_norm_backward, rotate, swiglu, swiglu_backward,
};
pub use memory::{
    DeviceMemory, HostMemory, device_memory, host_memory, keep_freed_memory, reset_device_peak, reset_host_peak,
};
pub use optimizer::{AdamW, adamw_step, scale_all, total_norm};
pub use profiler::Profiler;
pub use runtime::{
    count_operators, cpu_capability, cpu_has_bfloat16, set_deterministic, set_threads, threads, version,
};
pub use span::Span;
