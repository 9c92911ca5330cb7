//! The shape of a model, read from and written to Hugging Face's `config.json`.

use std::path::Path;

use palimpsest_torch::AttentionHeads;
use serde_json::{Map, Value, json};

use crate::{Error, Result};

mod fields;
mod rope;

use fields::Fields;
pub use rope::RopeScaling;

/// The model types whose layers are exactly ours, with the class that transformers loads them with.
const ARCHITECTURES: [(&str, &str); 2] = [("llama", "LlamaForCausalLM"), ("mistral", "MistralForCausalLM")];

/// The shape of a decoder: the fields of `config.json` that decide it, and the others as they were read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// `llama` or `mistral`.
    pub model_type: String,
    /// Rows of the embedding and of the head.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width between the MLP's projections.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; each serves as many query heads.
    pub num_key_value_heads: i64,
    /// Width of a head.
    pub head_dim: i64,
    /// The longest context the model was made for.
    pub max_position_embeddings: i64,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the attention's projections have biases.
    pub attention_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// The id that begins a document.
    pub bos_token_id: Option<i64>,
    /// The ids that end generation.
    pub eos_token_ids: Vec<i64>,
    /// The id whose row of the embedding gets no gradient where it is an input, as in transformers.
    pub pad_token_id: Option<i64>,
    /// All fields as read, for those we do not interpret.
    fields: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::read_file(&folder.join("config.json"))
    }

    /// Reads a file with the fields of a `config.json`.
    pub fn read_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let map: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| Error::weights(path, format!("is not a JSON object: {error}")))?;
        Self::from_json(&map, &path.display().to_string())
    }

    /// Interprets the fields of a `config.json`; `origin` names where they stand in errors. Sizes must be given, the rest
    /// defaults as in transformers. What our layers do not compute is refused by name.
    pub fn from_json(map: &Map<String, Value>, origin: &str) -> Result<Self> {
        let fields = Fields { map, origin };
        let model_type = model_type(&fields)?;
        refuse_unsupported(&fields)?;
        let hidden_size = fields.size("hidden_size")?;
        let num_attention_heads = fields.size("num_attention_heads")?;
        let num_key_value_heads = fields.optional_size("num_key_value_heads")?.unwrap_or(num_attention_heads);
        if num_attention_heads % num_key_value_heads != 0 {
            return Err(fields.error(
                "num_key_value_heads",
                format!("{num_key_value_heads} does not divide num_attention_heads, {num_attention_heads}"),
            ));
        }
        let head_dim = match fields.optional_size("head_dim")? {
            Some(width) => width,
            None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
            None => {
                return Err(fields.error(
                    "num_attention_heads",
                    format!("{num_attention_heads} does not divide hidden_size, {hidden_size}; or give head_dim"),
                ));
            }
        };
        if head_dim % 2 != 0 {
            return Err(fields.error("head_dim", format!("{head_dim} is odd; rotary embedding pairs its halves")));
        }
        let max_position_embeddings = fields.optional_size("max_position_embeddings")?.unwrap_or(2048);
        let (rope_theta, rope_scaling) = rope::read(&fields, max_position_embeddings, head_dim)?;
        Ok(Self {
            model_type,
            vocab_size: fields.size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers: fields.size("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings,
            rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?,
            attention_bias: fields.flag("attention_bias")?,
            mlp_bias: fields.flag("mlp_bias")?,
            initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
            bos_token_id: fields.ids("bos_token_id")?.first().copied(),
            eos_token_ids: fields.ids("eos_token_id")?,
            pad_token_id: fields.ids("pad_token_id")?.first().copied(),
            fields: map.clone(),
        })
    }

    /// How the columns of queries, keys and values are divided.
    pub(crate) fn heads(&self) -> AttentionHeads {
        AttentionHeads { queries: self.num_attention_heads, keys: self.num_key_value_heads, width: self.head_dim }
    }

    /// The longest context that steps over a cache can compute. Beyond it dynamic and long scaling turn all positions anew with the length of
    /// the text, and what is in the cache is turned already.
    pub fn cached_context(&self) -> i64 {
        match self.rope_scaling {
            RopeScaling::LongRope { original_max_position_embeddings: original, .. } => {
                original.min(self.max_position_embeddings)
            }
            _ => self.max_position_embeddings,
        }
    }

    /// The fields to write: those that were read, with ours brought up to date and `dtype` naming the weights' type
    /// (`float32`, `bfloat16`...). Both the keys of transformers 4 (`torch_dtype`, `rope_theta`, `rope_scaling`) and those
    /// of 5 (`dtype`, `rope_parameters`) are there.
    pub fn to_json(&self, dtype: &str) -> Map<String, Value> {
        let mut map = self.fields.clone();
        let class = ARCHITECTURES.iter().find(|(name, _)| *name == self.model_type).map(|(_, class)| *class);
        if !map.get("architectures").is_some_and(Value::is_array) {
            map.insert("architectures".into(), json!([class]));
        }
        let ours = [
            ("model_type", json!(self.model_type)),
            ("vocab_size", json!(self.vocab_size)),
            ("hidden_size", json!(self.hidden_size)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("num_hidden_layers", json!(self.num_hidden_layers)),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("head_dim", json!(self.head_dim)),
            ("hidden_act", json!("silu")),
            ("max_position_embeddings", json!(self.max_position_embeddings)),
            ("rms_norm_eps", json!(self.rms_norm_eps)),
            ("rope_theta", json!(self.rope_theta)),
            ("rope_scaling", self.rope_scaling.to_json()),
            ("rope_parameters", self.rope_scaling.to_parameters(self.rope_theta)),
            ("tie_word_embeddings", json!(self.tie_word_embeddings)),
            ("attention_bias", json!(self.attention_bias)),
            ("mlp_bias", json!(self.mlp_bias)),
            ("initializer_range", json!(self.initializer_range)),
            ("bos_token_id", json!(self.bos_token_id)),
            ("eos_token_id", ids_to_json(&self.eos_token_ids)),
            ("torch_dtype", json!(dtype)),
            ("dtype", json!(dtype)),
        ];
        for (key, value) in ours {
            map.insert(key.into(), value);
        }
        if self.model_type == "mistral" {
            map.insert("sliding_window".into(), Value::Null);
        }
        map
    }
}

/// One id as a number, several as a list, none as null: as transformers writes them.
pub(crate) fn ids_to_json(ids: &[i64]) -> Value {
    match ids {
        [] => Value::Null,
        [id] => json!(id),
        ids => json!(ids),
    }
}

fn model_type(fields: &Fields) -> Result<String> {
    let known = || ARCHITECTURES.map(|(name, _)| name).join(" and ");
    let model_type = match fields.text("model_type")? {
        Some(name) => name,
        None => "llama".to_owned(),
    };
    let Some((_, class)) = ARCHITECTURES.iter().find(|(name, _)| *name == model_type) else {
        return Err(fields.error("model_type", format!("{model_type} is not supported; {} are", known())));
    };
    match fields.map.get("architectures") {
        None | Some(Value::Null) => {}
        Some(Value::Array(names)) if names.iter().all(|name| name == class) => {}
        Some(names) => {
            return Err(fields.error("architectures", format!("{names} is not supported; [\"{class}\"] is")));
        }
    }
    Ok(model_type)
}

/// Refuses what would make transformers compute something else than we do.
fn refuse_unsupported(fields: &Fields) -> Result<()> {
    if let Some(activation) = fields.text("hidden_act")?.filter(|name| name != "silu" && name != "swish") {
        return Err(fields.error("hidden_act", format!("{activation} is not supported; silu is")));
    }
    if let Some(dropout) = fields.number("attention_dropout")?.filter(|dropout| *dropout != 0.0) {
        return Err(fields.error("attention_dropout", format!("{dropout} is not supported; 0 is")));
    }
    if let Some(factor) = fields.number("partial_rotary_factor")?.filter(|factor| *factor != 1.0) {
        return Err(fields.error("partial_rotary_factor", format!("{factor} is not supported; 1 is")));
    }
    for key in ["quantization_config", "auto_map"] {
        if fields.map.get(key).is_some_and(|value| !value.is_null()) {
            return Err(fields.error(key, "is not supported; give the model in float32, bfloat16 or float16"));
        }
    }
    // A window as wide as the context hides nothing.
    let context = fields.optional_size("max_position_embeddings")?.unwrap_or(2048);
    if let Some(window) = fields.optional_size("sliding_window")?.filter(|window| *window < context) {
        return Err(fields.error("sliding_window", format!("{window} is not supported; null is")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
