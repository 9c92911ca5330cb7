//! Attention of new tokens to keys and values that lie in blocks of a cache; on CPU a C++ kernel of our own.
//!
//! On CPU what a token gets depends on its own sequence alone, to the last bit: not on what else is computed with it, nor on how its sequence is
//! divided into steps.

mod fallback;

use std::ptr::null_mut;

use tch::{Device, Kind, Tensor};

use crate::attention::AttentionHeads;
use crate::ffi::{self, check, made, raw};
use crate::{Error, Result};

/// Positions of a block.
pub const BLOCK_POSITIONS: i64 = 32;

/// The keys and values of one layer, in blocks of [`BLOCK_POSITIONS`].
#[derive(Debug)]
pub struct CachedLayer {
    /// [blocks, key heads, width, positions]; where libtorch computes, [blocks * positions, key heads, width].
    keys: Tensor,
    /// [blocks, key heads, positions, padded width]; where libtorch computes, [blocks * positions, key heads, width].
    values: Tensor,
    is_ours: bool,
}

/// The new tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct CachedSpan<'a> {
    /// The position of the first.
    pub position: i64,
    /// How many there are.
    pub tokens: i64,
    /// The blocks of all positions from 0 to the last of them.
    pub blocks: &'a [u32],
}

impl CachedLayer {
    /// Room for so many blocks, all of it written to: what was given is there.
    pub fn new(blocks: i64, heads: AttentionHeads, options: (Kind, Device)) -> Result<Self> {
        if options.1 != Device::Cpu {
            return fallback::layer(blocks, heads, options);
        }
        let AttentionHeads { keys, width, .. } = heads;
        Ok(Self {
            keys: zeros(&[blocks, keys, width, BLOCK_POSITIONS], options)?,
            values: zeros(&[blocks, keys, BLOCK_POSITIONS, padded(width)], options)?,
            is_ours: true,
        })
    }

    /// Bytes that a block of a layer takes.
    pub fn block_bytes(heads: AttentionHeads, (kind, device): (Kind, Device)) -> i64 {
        let values = if device == Device::Cpu { padded(heads.width) } else { heads.width };
        heads.keys * BLOCK_POSITIONS * (heads.width + values) * kind.elt_size_in_bytes() as i64
    }
}

/// Zeros that are written, not merely promised.
fn zeros(shape: &[i64], options: (Kind, Device)) -> Result<Tensor> {
    Ok(Tensor::f_empty(shape, options)?.f_zero_()?)
}

/// The width of values in the cache: whole tiles.
fn padded(width: i64) -> i64 {
    (width + BLOCK_POSITIONS - 1) / BLOCK_POSITIONS * BLOCK_POSITIONS
}

/// Puts the keys and values of new tokens into the cache and gives what each attends to, [tokens, queries * width].
///
/// query_key_value: [tokens, (queries + 2 * keys) * width], queries and keys turned; the tokens of the spans, one span after the other. A token
/// sees the positions of its sequence up to its own.
pub fn cached_attention(
    query_key_value: &Tensor,
    cache: &CachedLayer,
    spans: &[CachedSpan<'_>],
    heads: AttentionHeads,
) -> Result<Tensor> {
    if !cache.is_ours {
        return fallback::cached_attention(query_key_value, cache, spans, heads);
    }
    let count = |length: usize| i64::try_from(length).map_err(|_| Error("too many blocks".into()));
    let mut numbers = Vec::with_capacity(3 * spans.len());
    let mut blocks: Vec<i32> = Vec::new();
    for span in spans {
        numbers.extend([span.tokens, span.position, count(span.blocks.len())?]);
        // A number beyond i32 is no block's, which the shim says.
        blocks.extend(span.blocks.iter().map(|block| i32::try_from(*block).unwrap_or(-1)));
    }
    let AttentionHeads { queries, keys, width } = heads;
    let mut out = null_mut();
    // SAFETY: live tensors, and as many numbers as said, all of which the shim checks.
    unsafe {
        check(ffi::palimpsest_cached_attention(
            raw(query_key_value),
            raw(&cache.keys),
            raw(&cache.values),
            numbers.as_ptr(),
            count(spans.len())?,
            blocks.as_ptr(),
            count(blocks.len())?,
            queries,
            keys,
            width,
            &mut out,
        ))?;
    }
    made(out)
}

#[cfg(test)]
mod tests;
