//! The weights of one pass, in the kind that it computes in.

use tch::{Kind, Tensor};

use crate::decoder::{Decoder, Groups, LayerGroups, Linear};

/// All weights; those of the decoder itself where its kind is the pass's, else copies.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) norm: Tensor,
    pub(crate) head: Tensor,
}

/// A layer's weights.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    pub(crate) input_norm: Tensor,
    pub(crate) query_key_value: Projection,
    pub(crate) output: Projection,
    pub(crate) mlp_norm: Tensor,
    pub(crate) gate_up: Projection,
    pub(crate) down: Projection,
}

/// A projection's weight [outputs, inputs] and bias [outputs].
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Weights {
    pub(crate) fn of(decoder: &Decoder, compute: Kind) -> Self {
        let Groups { embedding, layers, norm, head } = &decoder.groups;
        let embedding = embedding.value(compute);
        let head = head.as_ref().map_or_else(|| embedding.shallow_clone(), |head| head.value(compute));
        let layers = layers.iter().map(|layer| LayerWeights::of(layer, compute)).collect();
        Self { embedding, layers, norm: norm.value(compute), head }
    }
}

impl LayerWeights {
    fn of(layer: &LayerGroups, compute: Kind) -> Self {
        let projection = |linear: &Linear| Projection {
            weight: linear.weight.value(compute),
            bias: linear.bias.as_ref().map(|bias| bias.value(compute)),
        };
        Self {
            input_norm: layer.input_norm.value(compute),
            query_key_value: projection(&layer.query_key_value),
            output: projection(&layer.output),
            mlp_norm: layer.mlp_norm.value(compute),
            gate_up: projection(&layer.gate_up),
            down: projection(&layer.down),
        }
    }
}

impl Projection {
    /// `x * weight^T + bias`, [rows, inputs] to [rows, outputs].
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor, tch::TchError> {
        let weight = self.weight.f_tr()?;
        match &self.bias {
            None => x.f_mm(&weight),
            Some(bias) => bias.f_addmm(x, &weight),
        }
    }

    /// `residual + x * weight^T + bias`.
    pub(crate) fn apply_onto(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor, tch::TchError> {
        let mut out = residual.f_addmm(x, &self.weight.f_tr()?)?;
        if let Some(bias) = &self.bias {
            let _ = out.f_add_(bias)?;
        }
        Ok(out)
    }
}
