//! The shape of a decoder, and what follows from it without a weight being loaded: its size and its work.

use palimpsest_api::Trainable;
use serde_json::{Map, Value};

/// What decides the size of a decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Rows of the embedding and of the head.
    pub vocabulary: f64,
    /// Width of the residual stream.
    pub hidden: f64,
    /// Width between the MLP's projections.
    pub intermediate: f64,
    /// Layers.
    pub layers: f64,
    /// Width of all query heads together.
    pub query: f64,
    /// Width of all key heads together.
    pub key_value: f64,
    /// Whether the head is the embedding.
    pub is_tied: bool,
}

impl Shape {
    /// From a Hugging Face config, if it says enough.
    pub fn of(config: &Map<String, Value>, vocabulary: usize) -> Option<Self> {
        let number = |name: &str| config.get(name).and_then(Value::as_f64);
        let (hidden, heads) = (number("hidden_size")?, number("num_attention_heads")?);
        let head = number("head_dim").unwrap_or(hidden / heads);
        Some(Self {
            vocabulary: vocabulary as f64,
            hidden,
            intermediate: number("intermediate_size")?,
            layers: number("num_hidden_layers")?,
            query: heads * head,
            key_value: number("num_key_value_heads").unwrap_or(heads) * head,
            is_tied: config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// Parameters of the embedding and the head.
    pub fn embeddings(&self) -> f64 {
        self.vocabulary * self.hidden * if self.is_tied { 1.0 } else { 2.0 }
    }

    fn matrices(&self) -> f64 {
        let attention = 2.0 * self.hidden * self.query + 2.0 * self.hidden * self.key_value;
        self.layers * (attention + 3.0 * self.hidden * self.intermediate)
    }

    /// All parameters.
    pub fn parameters(&self) -> f64 {
        self.embeddings() + self.matrices() + self.hidden * (2.0 * self.layers + 1.0)
    }

    /// The floating-point operations of training on so many positions, each of which attends to `context` positions, in the
    /// way of PaLM (Chowdhery et al. 2022, arXiv:2204.02311, appendix B): 6 a weight and position (2 forward, 2 for the
    /// gradient of what comes in, 2 for the weight's own) and `12 * layers * query * context` a position for attention.
    /// That attention looks only back is not taken off, recomputed activations are not added, and the embedding, which is
    /// looked up and not multiplied, does not count. Layers whose weights are frozen save the last 2 of the 6.
    pub fn flops(&self, positions: f64, context: f64, trainable: Trainable) -> f64 {
        let of_a_layers_weight = match trainable {
            Trainable::All => 6.0,
            Trainable::Embeddings | Trainable::NewEmbeddings => 4.0,
        };
        let products = of_a_layers_weight * self.matrices() + 6.0 * self.vocabulary * self.hidden;
        positions * (products + 12.0 * self.layers * self.query * context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_2_has_its_parameters_and_work() {
        let config = serde_json::json!({
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "tie_word_embeddings": false,
        });
        let shape = Shape::of(config.as_object().unwrap(), 32000).unwrap();
        assert_eq!(shape.parameters(), 6_738_415_616.0);
        // 6 * (6,738,415,616 - embedding 131,072,000 - norms 266,240) + 12 * 32 * 4096 * 4096.
        assert_eq!(shape.flops(1.0, 4096.0, Trainable::All), 46_084_915_200.0);
        let saved = shape.flops(1.0, 4096.0, Trainable::All) - shape.flops(1.0, 4096.0, Trainable::NewEmbeddings);
        assert_eq!(saved, 2.0 * shape.matrices());
    }
}
