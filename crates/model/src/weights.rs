//! The weights of one pass, in the kind that it computes in.

use tch::{Kind, TchError, Tensor};

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
    /// What the rows of an int8 weight are to be multiplied by, [outputs].
    scales: Option<Tensor>,
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
    /// The same with projections of int8.
    pub(crate) fn quantized(&self) -> Result<Self, TchError> {
        Ok(Self {
            input_norm: self.input_norm.shallow_clone(),
            query_key_value: self.query_key_value.quantized()?,
            output: self.output.quantized()?,
            mlp_norm: self.mlp_norm.shallow_clone(),
            gate_up: self.gate_up.quantized()?,
            down: self.down.quantized()?,
        })
    }

    fn of(layer: &LayerGroups, compute: Kind) -> Self {
        let projection = |linear: &Linear| Projection {
            weight: linear.weight.value(compute),
            scales: None,
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
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match (&self.bias, &self.scales) {
            (None, None) => x.f_mm(&self.weight.f_tr()?),
            (Some(bias), None) => bias.f_addmm(x, &self.weight.f_tr()?),
            (None, Some(scales)) => x.f_internal_weight_int8pack_mm(&self.weight, scales),
            (Some(bias), Some(scales)) => x.f_internal_weight_int8pack_mm(&self.weight, scales)?.f_add(bias),
        }
    }

    /// The same with a weight of int8, a row's greatest number being 127.
    pub(crate) fn quantized(&self) -> Result<Self, TchError> {
        let weight = self.weight.f_to_kind(Kind::Float)?;
        let most = weight.f_abs()?.f_amax([1i64].as_slice(), false)?;
        // A row of zeros stays one.
        let scales = (most / 127.0).f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
        let rounded = weight.f_div(&scales.f_unsqueeze(1)?)?.f_round()?;
        Ok(Self {
            weight: rounded.f_to_kind(Kind::Int8)?,
            scales: Some(scales.f_to_kind(self.weight.kind())?),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
        })
    }

    /// `residual + x * weight^T + bias`.
    pub(crate) fn apply_onto(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor, TchError> {
        if self.scales.is_some() {
            return residual.f_add(&self.apply(x)?);
        }
        let mut out = residual.f_addmm(x, &self.weight.f_tr()?)?;
        if let Some(bias) = &self.bias {
            let _ = out.f_add_(bias)?;
        }
        Ok(out)
    }
}
