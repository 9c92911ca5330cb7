//! The fields that decide the rotary frequencies: `rope_theta` and `rope_scaling`, or transformers 5's `rope_parameters`.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::Result;

/// How rotary frequencies are stretched for contexts longer than those first trained on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1's: low frequencies are divided by a factor, high ones kept, those between blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are high ones.
        high_freq_factor: f64,
        /// The context first trained on.
        original_max_position_embeddings: i64,
    },
    /// NTK-aware: beyond the model's context theta grows with the longest position, so that the slowest turn fits.
    Dynamic {
        /// How strongly theta grows.
        factor: f64,
    },
    /// YaRN (<https://arxiv.org/abs/2309.00071>): slow turns are divided by a factor, fast ones kept, those between blended.
    Yarn {
        /// The factor.
        factor: f64,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Dimensions that turn more often than this over the original context are kept.
        beta_fast: f64,
        /// Dimensions that turn less often than this are divided.
        beta_slow: f64,
        /// The context first trained on.
        original_max_position_embeddings: i64,
        /// Whether the blend begins and ends at whole dimensions.
        truncate: bool,
    },
    /// LongRoPE (<https://arxiv.org/abs/2402.13753>): each pair of dimensions is divided by a factor of its own.
    LongRope {
        /// The factors up to the original context.
        short_factor: Vec<f64>,
        /// The factors beyond it.
        long_factor: Vec<f64>,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// The context first trained on.
        original_max_position_embeddings: i64,
    },
}

impl RopeScaling {
    /// The value of `rope_scaling`.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Default => Value::Null,
            Self::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
            Self::Dynamic { factor } => json!({"rope_type": "dynamic", "factor": factor}),
            Self::Yarn {
                factor,
                attention_factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings,
                truncate,
            } => json!({
                "rope_type": "yarn",
                "factor": factor,
                "attention_factor": attention_factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "original_max_position_embeddings": original_max_position_embeddings,
                "truncate": truncate,
            }),
            Self::LongRope { short_factor, long_factor, attention_factor, original_max_position_embeddings } => json!({
                "rope_type": "longrope",
                "short_factor": short_factor,
                "long_factor": long_factor,
                "attention_factor": attention_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
        }
    }

    /// The value of `rope_parameters`.
    pub(super) fn to_parameters(&self, theta: f64) -> Value {
        let mut value = match self.to_json() {
            Value::Null => json!({"rope_type": "default"}),
            value => value,
        };
        value["rope_theta"] = json!(theta);
        value
    }
}

/// Reads theta and scaling for heads of a width; `context` stands in for a missing `original_max_position_embeddings`.
pub(super) fn read(fields: &Fields, context: i64, head_dim: i64) -> Result<(f64, RopeScaling)> {
    let nested_key = if fields.object("rope_parameters")?.is_some() { "rope_parameters" } else { "rope_scaling" };
    let theta = fields.number("rope_theta")?;
    let Some(map) = fields.object(nested_key)? else {
        return Ok((theta.unwrap_or(10_000.0), RopeScaling::Default));
    };
    let origin = format!("{}: {nested_key}", fields.origin);
    let nested = Fields { map, origin: &origin };
    let theta = nested.number("rope_theta")?.or(theta).unwrap_or(10_000.0);
    if let Some(factor) = nested.number("partial_rotary_factor")?.filter(|factor| *factor != 1.0) {
        return Err(nested.error("partial_rotary_factor", format!("{factor} is not supported; 1 is")));
    }
    let kind = match nested.text("rope_type")? {
        Some(kind) => Some(kind),
        None => nested.text("type")?,
    };
    let required = |key: &str| {
        let value = nested.number(key)?.ok_or_else(|| nested.error(key, "is missing"))?;
        if value > 0.0 { Ok(value) } else { Err(nested.error(key, format!("{value} is not above 0"))) }
    };
    let original = || -> Result<i64> {
        match fields.optional_size("original_max_position_embeddings")? {
            Some(original) => Ok(original),
            None => Ok(nested.optional_size("original_max_position_embeddings")?.unwrap_or(context)),
        }
    };
    let scaling = match kind.as_deref() {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear { factor: required("factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_max_position_embeddings: original()?,
        },
        Some("dynamic") => RopeScaling::Dynamic { factor: required("factor")? },
        Some("yarn") => yarn(&nested, context, original()?)?,
        Some("longrope") => long_rope(&nested, context, original()?, head_dim)?,
        Some(other) => {
            let known = "default, linear, dynamic, yarn, longrope and llama3 are";
            return Err(nested.error("rope_type", format!("{other} is not supported; {known}")));
        }
    };
    Ok((theta, scaling))
}

/// The factor given, or how far the context exceeds the original one.
fn factor(nested: &Fields, context: i64, original: i64) -> Result<f64> {
    let factor = nested.number("factor")?.unwrap_or(context as f64 / original as f64);
    if factor > 0.0 { Ok(factor) } else { Err(nested.error("factor", format!("{factor} is not above 0"))) }
}

fn yarn(nested: &Fields, context: i64, original: i64) -> Result<RopeScaling> {
    let factor = factor(nested, context, original)?;
    let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let nonzero = |key: &str| nested.number(key).map(|number| number.filter(|value| *value != 0.0));
    let attention_factor = match (nested.number("attention_factor")?, nonzero("mscale")?, nonzero("mscale_all_dim")?) {
        (Some(given), ..) => given,
        (None, Some(over), Some(under)) => scale(over) / scale(under),
        _ => scale(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        attention_factor,
        beta_fast: nonzero("beta_fast")?.unwrap_or(32.0),
        beta_slow: nonzero("beta_slow")?.unwrap_or(1.0),
        original_max_position_embeddings: original,
        truncate: !nested.map.contains_key("truncate") || nested.flag("truncate")?,
    })
}

fn long_rope(nested: &Fields, context: i64, original: i64, head_dim: i64) -> Result<RopeScaling> {
    let factor = factor(nested, context, original)?;
    let default = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
    let list = |key: &str| {
        let numbers = nested.map.get(key).and_then(Value::as_array);
        let numbers: Option<Vec<f64>> = numbers.and_then(|list| list.iter().map(Value::as_f64).collect());
        let wanted = |list: &Vec<f64>| list.len() as i64 == head_dim / 2 && list.iter().all(|factor| *factor > 0.0);
        let problem = || format!("is not a list of {} numbers above 0, one for each pair of dimensions", head_dim / 2);
        numbers.filter(wanted).ok_or_else(|| nested.error(key, problem()))
    };
    Ok(RopeScaling::LongRope {
        short_factor: list("short_factor")?,
        long_factor: list("long_factor")?,
        attention_factor: nested.number("attention_factor")?.unwrap_or(default),
        original_max_position_embeddings: original,
    })
}
