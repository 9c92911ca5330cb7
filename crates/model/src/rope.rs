//! The angles of rotary position embedding (Su et al., <https://arxiv.org/abs/2104.09864>).

use std::cell::RefCell;
use std::f64::consts::TAU;

use tch::{Device, Kind, Tensor, no_grad};

use crate::config::{Config, RopeScaling};

/// Cosines and sines for positions from 0 on, [positions, head_dim / 2].
#[derive(Debug)]
pub(crate) struct Angles {
    pub(crate) cosine: Tensor,
    pub(crate) sine: Tensor,
}

impl Angles {
    fn shallow_clone(&self) -> Self {
        Self { cosine: self.cosine.shallow_clone(), sine: self.sine.shallow_clone() }
    }
}

/// Angles made so far; grows when a longer row comes.
#[derive(Debug, Default)]
pub(crate) struct AngleTable(RefCell<Option<(i64, Angles)>>);

impl AngleTable {
    /// Angles for at least `positions` positions, in the kind that sums of `compute` are formed in. They are computed in
    /// float32 whatever the kind, as transformers does. Where the scaling depends on it, `positions` must be one more than
    /// the furthest position of the batch.
    pub(crate) fn angles(&self, config: &Config, positions: i64, compute: Kind, device: Device) -> Angles {
        let span = span(config, positions);
        let kind = if compute == Kind::Double { Kind::Double } else { Kind::Float };
        let mut made = self.0.borrow_mut();
        let serves = |(made_for, angles): &&(i64, Angles)| {
            let cosine = &angles.cosine;
            *made_for == span && cosine.size()[0] >= positions && cosine.kind() == kind && cosine.device() == device
        };
        if let Some((_, angles)) = made.as_ref().filter(serves) {
            return angles.shallow_clone();
        }
        let rows = (positions.max(1) as u64).next_power_of_two() as i64;
        let angles = no_grad(|| {
            let places = Tensor::arange(rows, (Kind::Float, Device::Cpu)).unsqueeze(-1);
            let turns = places * frequencies(config, span).unsqueeze(0);
            let table =
                |values: Tensor| (values * attention_factor(config)).to_kind(kind).to_device(device).contiguous();
            Angles { cosine: table(turns.cos()), sine: table(turns.sin()) }
        });
        made.insert((span, angles)).1.shallow_clone()
    }
}

/// Whether frequencies depend on how long a batch's documents are.
pub(crate) fn depends_on_length(config: &Config) -> bool {
    matches!(config.rope_scaling, RopeScaling::Dynamic { .. } | RopeScaling::LongRope { .. })
}

/// The length that frequencies are made for: the same for all lengths that share them.
fn span(config: &Config, positions: i64) -> i64 {
    match &config.rope_scaling {
        RopeScaling::Dynamic { .. } => positions.max(config.max_position_embeddings),
        RopeScaling::LongRope { original_max_position_embeddings: original, .. } => {
            if positions > *original {
                original + 1
            } else {
                *original
            }
        }
        _ => 0,
    }
}

/// What cosines and sines are multiplied with.
fn attention_factor(config: &Config) -> f64 {
    match config.rope_scaling {
        RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => attention_factor,
        _ => 1.0,
    }
}

/// The angle of each pair of a head's dimensions for one position, [head_dim / 2], float32, as transformers'
/// `modeling_rope_utils.py` computes it.
fn frequencies(config: &Config, span: i64) -> Tensor {
    let width = config.head_dim as f64;
    let exponents = Tensor::arange_start_step(0, config.head_dim, 2, (Kind::Float, Device::Cpu)) / width;
    let plain = Tensor::pow_scalar(config.rope_theta, &exponents).reciprocal();
    match &config.rope_scaling {
        RopeScaling::Default => plain,
        RopeScaling::Linear { factor } => plain / *factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let context = *original_max_position_embeddings as f64;
            let wavelengths = plain.reciprocal() * TAU;
            let is_low = wavelengths.gt(context / low_freq_factor);
            let is_high = wavelengths.lt(context / high_freq_factor);
            let stretched = (&plain / *factor).where_self(&is_low, &plain);
            let blend = (wavelengths.reciprocal() * context - *low_freq_factor) / (high_freq_factor - low_freq_factor);
            let blended: Tensor = (1.0 - &blend) * &stretched / *factor + &blend * &stretched;
            let is_between = is_low.logical_or(&is_high).logical_not();
            blended.where_self(&is_between, &stretched)
        }
        RopeScaling::Dynamic { factor } => {
            let growth = factor * span as f64 / config.max_position_embeddings as f64 - (factor - 1.0);
            Tensor::pow_scalar(config.rope_theta * growth.powf(width / (width - 2.0)), &exponents).reciprocal()
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position_embeddings, truncate, .. } => {
            // The dimension that turns so often over the original context.
            let context = *original_max_position_embeddings as f64;
            let dimension = |turns: f64| width * (context / (turns * TAU)).ln() / (2.0 * config.rope_theta.ln());
            let (low, high) = (dimension(*beta_fast), dimension(*beta_slow));
            let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
            let (low, high) = (low.max(0.0), high.min(width - 1.0));
            let high = if low == high { high + 0.001 } else { high };
            let places = Tensor::arange(config.head_dim / 2, (Kind::Float, Device::Cpu));
            let stretched_share = ((places - low) / (high - low)).clamp(0.0, 1.0);
            (&plain / *factor) * &stretched_share + &plain * (1.0 - &stretched_share)
        }
        RopeScaling::LongRope { short_factor, long_factor, original_max_position_embeddings, .. } => {
            let factors = if span > *original_max_position_embeddings { long_factor } else { short_factor };
            let wavelengths = Tensor::pow_scalar(config.rope_theta, &exponents);
            (Tensor::from_slice(factors).to_kind(Kind::Float) * wavelengths).reciprocal()
        }
    }
}
