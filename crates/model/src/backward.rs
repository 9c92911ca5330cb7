//! The backward pass of one decoder layer, written out.

use palimpsest_torch::{rms_norm, rms_norm_backward, swiglu, swiglu_backward};
use tch::Tensor;

use crate::Result;
use crate::attention;
use crate::decoder::{LayerGroups, Linear, Parameter};
use crate::group::{accumulate_product, accumulate_rows};
use crate::layer::{Activations, Context, Saved, until_gate_up};
use crate::weights::LayerWeights;

/// Turns `d`, the gradient of the layer's output [tokens, hidden], into that of its input, in place, and adds the gradients of
/// the layer's trained parameters to theirs.
pub(crate) fn backward(
    d: &Tensor,
    saved: Saved,
    weights: &LayerWeights,
    groups: &LayerGroups,
    parameters: &[Parameter],
    context: &Context<'_>,
) -> Result<()> {
    let activations = match saved {
        Saved::Activations(activations) => *activations,
        Saved::Input(input) => until_gate_up(input, weights, context, Some)?,
    };
    mlp_backward(d, &activations, weights, groups, parameters, context.epsilon)?;
    attention_backward(d, &activations, weights, groups, parameters, context)
}

fn mlp_backward(
    d: &Tensor,
    kept: &Activations,
    weights: &LayerWeights,
    groups: &LayerGroups,
    parameters: &[Parameter],
    epsilon: f64,
) -> Result<()> {
    let activated = || match &kept.activated {
        Some(activated) => Ok(activated.shallow_clone()),
        None => swiglu(&kept.gate_up),
    };
    accumulate(&groups.down, parameters, d, || Ok(activated()?))?;
    let d_activated = d.f_mm(&weights.down.weight)?;
    let d_gate_up = &kept.gate_up;
    swiglu_backward(&d_activated, d_gate_up)?;
    accumulate(&groups.gate_up, parameters, d_gate_up, || match &kept.middle_normed {
        Some(normed) => Ok(normed.shallow_clone()),
        None => Ok(rms_norm(&kept.middle, &weights.mlp_norm, epsilon)?.0),
    })?;
    let d_normed = d_gate_up.f_mm(&weights.gate_up.weight)?;
    let gradient = groups.mlp_norm.gradient(parameters)?;
    rms_norm_backward(&d_normed, &kept.middle, &weights.mlp_norm, &kept.middle_rstd, d, gradient.as_ref())?;
    Ok(())
}

fn attention_backward(
    d: &Tensor,
    kept: &Activations,
    weights: &LayerWeights,
    groups: &LayerGroups,
    parameters: &[Parameter],
    context: &Context<'_>,
) -> Result<()> {
    accumulate(&groups.output, parameters, d, || Ok(kept.attention.output().shallow_clone()))?;
    let d_attended = d.f_mm(&weights.output.weight)?;
    let (heads, pattern, rotation) = (context.heads, &context.pattern, &context.rotation);
    let d_columns = attention::backward(&d_attended, &kept.query_key_value, heads, pattern, &kept.attention, rotation)?;
    accumulate(&groups.query_key_value, parameters, &d_columns, || match &kept.input_normed {
        Some(normed) => Ok(normed.shallow_clone()),
        None => Ok(rms_norm(&kept.input, &weights.input_norm, context.epsilon)?.0),
    })?;
    let d_normed = d_columns.f_mm(&weights.query_key_value.weight)?;
    let gradient = groups.input_norm.gradient(parameters)?;
    rms_norm_backward(&d_normed, &kept.input, &weights.input_norm, &kept.input_rstd, d, gradient.as_ref())?;
    Ok(())
}

/// Adds a projection's gradients: `d^T * x` and the sum of d's rows. `x` is asked for only where it is needed.
fn accumulate(linear: &Linear, parameters: &[Parameter], d: &Tensor, x: impl FnOnce() -> Result<Tensor>) -> Result<()> {
    if let Some(gradient) = linear.weight.gradient(parameters)? {
        accumulate_product(&gradient, &d.f_tr()?, &x()?)?;
    }
    if let Some(bias) = &linear.bias
        && let Some(gradient) = bias.gradient(parameters)?
    {
        accumulate_rows(&gradient, d)?;
    }
    Ok(())
}
