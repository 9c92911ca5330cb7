//! The schema of `model.architecture`: Hugging Face's own object, so that any field is welcome. Those that decide our
//! models' shape have their types.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::training_job::limits;

const FIELDS: [(&str, &str, &str); 15] = [
    ("model_type", "string", "llama or mistral."),
    ("vocab_size", "integer", "Rows of the embedding and of the head; the tokenizer's size where it is learned."),
    ("hidden_size", "integer", "Width of the residual stream."),
    ("intermediate_size", "integer", "Width between the MLP's projections."),
    ("num_hidden_layers", "integer", "Layers."),
    ("num_attention_heads", "integer", "Query heads."),
    ("num_key_value_heads", "integer", "Key and value heads; absent: as many as query heads."),
    ("head_dim", "integer", "Width of a head; absent: hidden_size by num_attention_heads."),
    ("max_position_embeddings", "integer", "The longest context; absent: 2048."),
    ("rms_norm_eps", "number", "Added to the mean square in RMSNorm; absent: 1e-6."),
    ("rope_theta", "number", "Base of the rotary frequencies; absent: 10000."),
    ("initializer_range", "number", "Standard deviation of random weights; absent: 0.02."),
    ("tie_word_embeddings", "boolean", "Whether the head is the embedding."),
    ("attention_bias", "boolean", "Whether the attention's projections have biases."),
    ("mlp_bias", "boolean", "Whether the MLP's projections have biases."),
];

/// The schema of a `config.json`.
pub(crate) fn architecture(_: &mut SchemaGenerator) -> Schema {
    let properties = FIELDS.map(|(name, kind, description)| {
        // transformers writes null for what is not set.
        (name.to_owned(), json!({"type": kind, "nullable": true, "description": description}))
    });
    let properties: Map<String, Value> = properties.into_iter().collect();
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": limits::ARCHITECTURE,
        "properties": properties,
        "additionalProperties": true,
    })
}
