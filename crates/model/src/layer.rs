//! One decoder layer: forward, and what it keeps for its backward pass.

use palimpsest_torch::{AttentionHeads, Rotation, rms_norm, swiglu};
use tch::Tensor;

use crate::Result;
use crate::attention::{self, Pattern};
use crate::forward::Checkpointing;
use crate::weights::LayerWeights;

/// What all layers of a pass share.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) heads: AttentionHeads,
    pub(crate) pattern: Pattern,
    pub(crate) rotation: Rotation<'a>,
    pub(crate) epsilon: f64,
}

/// What a layer keeps between its forward and its backward pass.
#[derive(Debug)]
pub(crate) enum Saved {
    /// Its input, [tokens, hidden]: all else is computed again.
    Input(Tensor),
    /// What it computed.
    Activations(Box<Activations>),
}

/// The results that the backward pass reads. Those that are `None` are cheap to compute again from the others.
#[derive(Debug)]
pub(crate) struct Activations {
    /// The layer's input, [tokens, hidden].
    pub(crate) input: Tensor,
    pub(crate) input_rstd: Tensor,
    pub(crate) input_normed: Option<Tensor>,
    /// Turned queries and keys, and values, [tokens, columns].
    pub(crate) query_key_value: Tensor,
    pub(crate) attention: attention::Saved,
    /// The residual stream between attention and MLP.
    pub(crate) middle: Tensor,
    pub(crate) middle_rstd: Tensor,
    pub(crate) middle_normed: Option<Tensor>,
    pub(crate) gate_up: Tensor,
    pub(crate) activated: Option<Tensor>,
}

/// The layer's output for x: [tokens, hidden].
pub(crate) fn forward(x: &Tensor, weights: &LayerWeights, context: &Context<'_>) -> Result<Tensor> {
    let (normed, _) = rms_norm(x, &weights.input_norm, context.epsilon)?;
    let query_key_value = weights.query_key_value.apply(&normed)?;
    attention::turn(&query_key_value, context.heads, &context.rotation)?;
    let attended = attention::forward(&query_key_value, context.heads, &context.pattern)?;
    let middle = weights.output.apply_onto(x, &attended)?;
    mlp(&middle, weights, context.epsilon)
}

/// The residual stream after the MLP.
pub(crate) fn mlp(middle: &Tensor, weights: &LayerWeights, epsilon: f64) -> Result<Tensor> {
    let (normed, _) = rms_norm(middle, &weights.mlp_norm, epsilon)?;
    let gate_up = weights.gate_up.apply(&normed)?;
    Ok(weights.down.apply_onto(middle, &swiglu(&gate_up)?)?)
}

/// The layer's output, and what its backward pass needs.
pub(crate) fn forward_saving(
    x: Tensor,
    weights: &LayerWeights,
    context: &Context<'_>,
    checkpointing: Checkpointing,
) -> Result<(Tensor, Saved)> {
    if checkpointing == Checkpointing::Full {
        let output = forward(&x, weights, context)?;
        return Ok((output, Saved::Input(x)));
    }
    let keep = |tensor: Tensor| (checkpointing == Checkpointing::None).then_some(tensor);
    let mut activations = until_gate_up(x, weights, context, keep)?;
    let activated = swiglu(&activations.gate_up)?;
    let output = weights.down.apply_onto(&activations.middle, &activated)?;
    activations.activated = keep(activated);
    Ok((output, Saved::Activations(Box::new(activations))))
}

/// The results up to the MLP's first projection, the last that a backward pass cannot do without.
pub(crate) fn until_gate_up(
    input: Tensor,
    weights: &LayerWeights,
    context: &Context<'_>,
    keep: impl Fn(Tensor) -> Option<Tensor>,
) -> Result<Activations> {
    let (normed, input_rstd) = rms_norm(&input, &weights.input_norm, context.epsilon)?;
    let query_key_value = weights.query_key_value.apply(&normed)?;
    let input_normed = keep(normed);
    attention::turn(&query_key_value, context.heads, &context.rotation)?;
    let attention = attention::forward_saving(&query_key_value, context.heads, &context.pattern)?;
    let middle = weights.output.apply_onto(&input, attention.output())?;
    let (normed, middle_rstd) = rms_norm(&middle, &weights.mlp_norm, context.epsilon)?;
    let gate_up = weights.gate_up.apply(&normed)?;
    let middle_normed = keep(normed);
    Ok(Activations {
        input,
        input_rstd,
        input_normed,
        query_key_value,
        attention,
        middle,
        middle_rstd,
        middle_normed,
        gate_up,
        activated: None,
    })
}
