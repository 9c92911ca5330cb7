//! Causal attention within segments, forward and backward, on CPU: a C++ kernel of our own, compiled for each instruction set.
//!
//! The softmax is formed block by block of keys and never held as a whole (FlashAttention-2, <https://arxiv.org/abs/2307.08691>). Sums
//! are float32, or float64 for float64 tensors. It takes no part in autograd.

use std::ptr::null_mut;

use tch::Tensor;

use crate::ffi::{self, check, made, raw};
use crate::{Error, Result};

/// How the columns of queries, keys and values are divided: `queries` heads, then `keys` heads of keys and as many of values, each
/// `width` wide. Query heads share key heads in groups of neighbours.
#[derive(Clone, Copy, Debug)]
pub struct AttentionHeads {
    /// Query heads.
    pub queries: i64,
    /// Key heads.
    pub keys: i64,
    /// Columns of a head.
    pub width: i64,
}

impl AttentionHeads {
    /// Query heads that share a key head.
    pub fn group(&self) -> i64 {
        self.queries / self.keys
    }

    /// All columns.
    pub fn columns(&self) -> i64 {
        (self.queries + 2 * self.keys) * self.width
    }
}

/// What attention gives.
#[derive(Debug)]
pub struct Attended {
    /// [tokens, queries * width]
    pub output: Tensor,
    /// The logarithms of the softmax's denominators, [tokens, queries], float32 (float64 for float64 tensors).
    pub log_sums: Tensor,
}

/// `softmax(query key^T / sqrt(width)) value` of each head, where a token sees those of its segment up to itself.
///
/// query_key_value: [tokens, (queries + 2 * keys) * width]; `bounds`: where the segments begin, and the end of the last.
pub fn attention(query_key_value: &Tensor, bounds: &[i64], heads: AttentionHeads) -> Result<Attended> {
    let AttentionHeads { queries, keys, width } = heads;
    let (mut output, mut log_sums) = (null_mut(), null_mut());
    // SAFETY: a live tensor and as many bounds as said, all of which the shim checks.
    unsafe {
        check(ffi::palimpsest_attention(
            raw(query_key_value),
            bounds.as_ptr(),
            count(bounds)?,
            queries,
            keys,
            width,
            &mut output,
            &mut log_sums,
        ))?;
    }
    Ok(Attended { output: made(output)?, log_sums: made(log_sums)? })
}

/// The gradient of `query_key_value`, given that of the output.
pub fn attention_backward(
    d_output: &Tensor,
    query_key_value: &Tensor,
    attended: &Attended,
    bounds: &[i64],
    heads: AttentionHeads,
) -> Result<Tensor> {
    let AttentionHeads { queries, keys, width } = heads;
    let mut gradient = null_mut();
    // SAFETY: live tensors and as many bounds as said, all of which the shim checks.
    unsafe {
        check(ffi::palimpsest_attention_backward(
            raw(d_output),
            raw(query_key_value),
            raw(&attended.output),
            raw(&attended.log_sums),
            bounds.as_ptr(),
            count(bounds)?,
            queries,
            keys,
            width,
            &mut gradient,
        ))?;
    }
    made(gradient)
}

fn count(bounds: &[i64]) -> Result<i64> {
    i64::try_from(bounds.len()).map_err(|_| Error("too many segments".into()))
}

#[cfg(test)]
mod tests;
