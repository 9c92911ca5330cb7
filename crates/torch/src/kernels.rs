//! The element-wise parts of a decoder layer, forward and backward, each in one pass over its data.
//!
//! On CPU they are our own C++ kernels (float32, float64 and bfloat16, compiled for each instruction set); elsewhere the
//! same mathematics in ATen operations. Sums and intermediate values are float32, or float64 for float64 tensors. None
//! takes part in autograd.

use std::ptr::null_mut;

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::ffi::{self, check, made, raw};

/// Where heads are turned to: the table of angles and each row's place in it.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// cos of the angles, [table, width / 2], float32 (float64 for float64 heads).
    pub cosine: &'a Tensor,
    /// sin of the angles, likewise.
    pub sine: &'a Tensor,
    /// The row of the table for each position, [batch * positions], int64.
    pub positions: &'a Tensor,
    /// Turns back by the same angles: the gradient of turning.
    pub inverse: bool,
}

/// The kind that sums are formed in.
fn accumulation_kind(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// RMSNorm (Zhang and Sennrich, <https://arxiv.org/abs/1910.07467>): `weight * x / sqrt(mean(x^2) + epsilon)`, the
/// quotient rounded to x's kind before the product, as transformers' `LlamaRMSNorm` does.
///
/// x: [rows, width]; returns y: [rows, width] and the reciprocal root, [rows].
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    if x.device() != Device::Cpu {
        return fallback::rms_norm(x, weight, epsilon);
    }
    let (mut y, mut rstd) = (null_mut(), null_mut());
    // SAFETY: live tensors, whose kinds and shapes the shim checks.
    unsafe { check(ffi::palimpsest_rms_norm(raw(x), raw(weight), epsilon, &mut y, &mut rstd))? };
    Ok((made(y)?, made(rstd)?))
}

/// Adds the gradient of x to `residual` and that of the weight, where asked for, to `weight_gradient` (float32, or float64).
pub fn rms_norm_backward(
    dy: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
    residual: &Tensor,
    weight_gradient: Option<&Tensor>,
) -> Result<()> {
    if x.device() != Device::Cpu {
        return fallback::rms_norm_backward(dy, x, weight, rstd, residual, weight_gradient);
    }
    let gradient = weight_gradient.map_or(null_mut(), raw);
    // SAFETY: live tensors, whose kinds and shapes the shim checks.
    unsafe {
        check(ffi::palimpsest_rms_norm_backward(raw(dy), raw(x), raw(weight), raw(rstd), raw(residual), gradient))
    }
}

/// Turns heads by rotary position embedding (<https://arxiv.org/abs/2104.09864>; halves paired as in transformers) from
/// `source` [batch, positions, heads, width] to the columns of `target` [batch * positions, columns] from `offset` on. `source`
/// may be a view of the very columns it goes to.
pub fn rotate(source: &Tensor, target: &Tensor, offset: i64, rotation: &Rotation) -> Result<()> {
    if source.device() != Device::Cpu {
        return fallback::rotate(source, target, offset, rotation);
    }
    let Rotation { cosine, sine, positions, inverse } = *rotation;
    let sign = if inverse { -1.0 } else { 1.0 };
    // SAFETY: live tensors, whose kinds, shapes and positions the shim checks.
    unsafe {
        check(ffi::palimpsest_rotate(raw(source), raw(target), offset, raw(cosine), raw(sine), raw(positions), sign))
    }
}

/// SwiGLU (<https://arxiv.org/abs/2002.05202>): `silu(gate) * up` of rows [gate, up]. [rows, 2 * width] to [rows, width].
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    if gate_up.device() != Device::Cpu {
        return fallback::swiglu(gate_up);
    }
    let mut out = null_mut();
    // SAFETY: a live tensor, whose kind and shape the shim checks.
    unsafe { check(ffi::palimpsest_swiglu(raw(gate_up), &mut out))? };
    made(out)
}

/// Puts the gradient of `gate_up` in its place, given that of the product.
pub fn swiglu_backward(d_out: &Tensor, gate_up: &Tensor) -> Result<()> {
    if gate_up.device() != Device::Cpu {
        return fallback::swiglu_backward(d_out, gate_up);
    }
    // SAFETY: live tensors, whose kinds and shapes the shim checks.
    unsafe { check(ffi::palimpsest_swiglu_backward(raw(d_out), raw(gate_up))) }
}

/// Losses `-ln softmax(logits)[label]`, [rows], in float32 (float64 for float64 logits). With a `scale` the logits [rows,
/// vocabulary] become the gradient of scale times the losses' sum; without one their content is left as it was.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, scale: Option<f64>) -> Result<Tensor> {
    if logits.device() != Device::Cpu {
        return fallback::cross_entropy(logits, labels, scale);
    }
    let mut losses = null_mut();
    // SAFETY: live tensors, whose kinds, shapes and labels the shim checks.
    unsafe {
        check(ffi::palimpsest_cross_entropy(
            raw(logits),
            raw(labels),
            scale.unwrap_or(0.0),
            scale.is_some(),
            &mut losses,
        ))?;
    }
    made(losses)
}

/// Adds row i of `d` [rows, width] to row ids[i] of `gradient` [vocabulary, width] (float32, or float64), always in the
/// same order. Rows of the id `skipped` add nothing.
pub fn embedding_backward(gradient: &Tensor, ids: &Tensor, d: &Tensor, skipped: Option<i64>) -> Result<()> {
    let skipped = skipped.unwrap_or(-1);
    if d.device() != Device::Cpu {
        return fallback::embedding_backward(gradient, ids, d, skipped);
    }
    // SAFETY: live tensors, whose kinds, shapes and ids the shim checks.
    unsafe { check(ffi::palimpsest_embedding_backward(raw(gradient), raw(ids), raw(d), skipped)) }
}

/// The same in ATen operations, for devices other than the CPU.
mod fallback;

#[cfg(test)]
mod tests;
