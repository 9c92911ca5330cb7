//! A stage's optimizer, its learning rate, and what happens when the loss jumps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{defaults, limits};
use crate::Decimal;

/// AdamW.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Optimizer {
    /// The peak learning rate.
    #[serde(default = "defaults::learning_rate")]
    pub learning_rate: Decimal,
    /// The decay of the two moments.
    #[serde(default = "defaults::betas")]
    pub betas: [Decimal; 2],
    /// Added to the root of the second moment.
    #[serde(default = "defaults::epsilon")]
    pub epsilon: Decimal,
    /// Decoupled weight decay.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: Decimal,
    /// Parameters without weight decay.
    #[serde(default = "defaults::no_decay")]
    #[schemars(length(max = limits::NO_DECAY))]
    pub no_decay: Vec<NoDecay>,
    /// The largest norm of the gradient of all parameters; 0: none.
    #[serde(default = "defaults::clip_norm")]
    pub clip_norm: Decimal,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            learning_rate: defaults::learning_rate(),
            betas: defaults::betas(),
            epsilon: defaults::epsilon(),
            weight_decay: defaults::weight_decay(),
            no_decay: defaults::no_decay(),
            clip_norm: defaults::clip_norm(),
        }
    }
}

/// Parameters without weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum NoDecay {
    /// The weights of the norms.
    Norms,
    /// The embedding and the head.
    Embeddings,
}

/// The learning rate over a stage.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// The shape after the warm-up.
    #[serde(default)]
    pub kind: ScheduleKind,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The last learning rate over the peak.
    #[serde(default = "defaults::minimum_ratio")]
    pub minimum_ratio: Decimal,
    /// The steps of the decay, with `WarmupStableDecay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<u64>,
    /// The shape of the decay, with `WarmupStableDecay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_shape: Option<DecayShape>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::default(),
            warmup_steps: 0,
            minimum_ratio: defaults::minimum_ratio(),
            decay_steps: None,
            decay_shape: None,
        }
    }
}

/// The shape of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum ScheduleKind {
    /// Half a cosine from the peak to the minimum.
    #[default]
    Cosine,
    /// A line from the peak to the minimum.
    Linear,
    /// The peak throughout.
    Constant,
    /// The peak, then a decay over the last `decaySteps`.
    WarmupStableDecay,
}

/// The shape of a decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum DecayShape {
    /// A line.
    #[default]
    Linear,
    /// Half a cosine.
    Cosine,
    /// One minus the square root of the share of the decay that has passed.
    Sqrt,
}

/// What happens when the loss jumps.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spikes {
    /// A spike is a loss over this many deviations above the mean of the window.
    #[serde(default = "defaults::loss_sigma")]
    pub loss_sigma: Decimal,
    /// How many of the last losses are looked at.
    #[serde(default = "defaults::spike_window")]
    pub window: u32,
    /// What is done.
    #[serde(default)]
    pub action: SpikeAction,
}

impl Default for Spikes {
    fn default() -> Self {
        Self { loss_sigma: defaults::loss_sigma(), window: defaults::spike_window(), action: SpikeAction::default() }
    }
}

/// What is done at a spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum SpikeAction {
    /// Only counted. A loss that is not a number still skips the step.
    Ignore,
    /// The optimizer does not step; data and schedule go on.
    #[default]
    SkipStep,
    /// The job fails.
    Fail,
}
