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

/// Reads theta and scaling; `context` stands in for a missing `original_max_position_embeddings`.
pub(super) fn read(fields: &Fields, context: i64) -> Result<(f64, RopeScaling)> {
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
    let scaling = match kind.as_deref() {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear { factor: required("factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_max_position_embeddings: nested
                .optional_size("original_max_position_embeddings")?
                .unwrap_or(context),
        },
        Some(other) => {
            return Err(nested.error("rope_type", format!("{other} is not supported; default, linear and llama3 are")));
        }
    };
    Ok((theta, scaling))
}
