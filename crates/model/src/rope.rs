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
pub(crate) struct AngleTable(RefCell<Option<Angles>>);

impl AngleTable {
    /// Angles for at least `positions` positions, in the kind that sums of `compute` are formed in. They are computed in
    /// float32 whatever the kind, as transformers does.
    pub(crate) fn angles(&self, config: &Config, positions: i64, compute: Kind, device: Device) -> Angles {
        let kind = if compute == Kind::Double { Kind::Double } else { Kind::Float };
        let mut made = self.0.borrow_mut();
        let serves = |angles: &&Angles| {
            let cosine = &angles.cosine;
            cosine.size()[0] >= positions && cosine.kind() == kind && cosine.device() == device
        };
        if let Some(angles) = made.as_ref().filter(serves) {
            return angles.shallow_clone();
        }
        let rows = (positions.max(1) as u64).next_power_of_two() as i64;
        let angles = no_grad(|| {
            let places = Tensor::arange(rows, (Kind::Float, Device::Cpu)).unsqueeze(-1);
            let turns = places * frequencies(config).unsqueeze(0);
            let table = |values: Tensor| values.to_kind(kind).to_device(device).contiguous();
            Angles { cosine: table(turns.cos()), sine: table(turns.sin()) }
        });
        made.insert(angles).shallow_clone()
    }
}

/// The angle of each pair of a head's dimensions for one position, [head_dim / 2], float32.
fn frequencies(config: &Config) -> Tensor {
    let dimensions = Tensor::arange_start_step(0, config.head_dim, 2, (Kind::Float, Device::Cpu));
    let exponents = dimensions / config.head_dim as f64;
    let plain = Tensor::pow_scalar(config.rope_theta, &exponents).reciprocal();
    match config.rope_scaling {
        RopeScaling::Default => plain,
        RopeScaling::Linear { factor } => plain / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let context = original_max_position_embeddings as f64;
            let wavelengths = plain.reciprocal() * TAU;
            let is_low = wavelengths.gt(context / low_freq_factor);
            let is_high = wavelengths.lt(context / high_freq_factor);
            let stretched = (&plain / factor).where_self(&is_low, &plain);
            let blend = (wavelengths.reciprocal() * context - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let blended: Tensor = (1.0 - &blend) * &stretched / factor + &blend * &stretched;
            let is_between = is_low.logical_or(&is_high).logical_not();
            blended.where_self(&is_between, &stretched)
        }
    }
}
