//! Writes a model as transformers' `save_pretrained` does.

use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Kind;

use super::tensors::{Stored, write_views};
use super::{GENERATION_CONFIG, INDEX, SINGLE};
use crate::config::ids_to_json;
use crate::decoder::Decoder;
use crate::{Error, Result};

/// The most bytes of a shard, as in transformers.
const SHARD_BYTES: usize = 5_000_000_000;

impl Decoder {
    /// Writes weights cast to `kind` (one file, or shards of 5 GB and an index), `config.json` and
    /// `generation_config.json` (as it was read, with the config's special ids where it had none) into a folder, which is made
    /// if need be.
    pub fn save(&self, folder: &Path, kind: Kind) -> Result<()> {
        self.save_in_shards(folder, kind, SHARD_BYTES)
    }

    /// As [`Decoder::save`], in shards of at most `shard_bytes` (but for a tensor that is larger alone).
    pub fn save_in_shards(&self, folder: &Path, kind: Kind, shard_bytes: usize) -> Result<()> {
        let Some(dtype) = dtype_name(kind) else {
            return Err(Error::Invalid(format!(
                "weights cannot be written in {kind:?}; write them in Float, BFloat16 or Half"
            )));
        };
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        self.write_weights(folder, kind, shard_bytes)?;
        write_json(&folder.join("config.json"), &self.config.to_json(dtype))?;
        write_json(&folder.join(GENERATION_CONFIG), &self.generation_config())
    }

    fn write_weights(&self, folder: &Path, kind: Kind, shard_bytes: usize) -> Result<()> {
        let mut shards: Vec<Vec<(&str, Stored<'_>)>> = vec![Vec::new()];
        let (mut in_shard, mut total) = (0, 0);
        for parameter in &self.parameters {
            let stored = Stored::of(folder, &parameter.name, &parameter.tensor, Some(kind))?;
            let bytes = stored.bytes();
            if in_shard > 0 && in_shard + bytes > shard_bytes {
                shards.push(Vec::new());
                in_shard = 0;
            }
            in_shard += bytes;
            total += bytes;
            if let Some(shard) = shards.last_mut() {
                shard.push((&parameter.name, stored));
            }
        }
        if shards.len() == 1 {
            return shards.into_iter().try_for_each(|shard| write_views(&folder.join(SINGLE), shard));
        }
        let count = shards.len();
        let mut weight_map = Map::new();
        for (number, shard) in (1..).zip(shards) {
            let file = format!("model-{number:05}-of-{count:05}.safetensors");
            weight_map.extend(shard.iter().map(|(name, _)| ((*name).to_owned(), json!(file))));
            write_views(&folder.join(&file), shard)?;
        }
        let elements: usize = self.parameters.iter().map(|parameter| parameter.tensor.numel()).sum();
        let index = json!({
            "metadata": {"total_parameters": elements, "total_size": total},
            "weight_map": weight_map,
        });
        write_json(&folder.join(INDEX), &index)
    }

    fn generation_config(&self) -> Map<String, Value> {
        let mut map = self.generation_config.clone().unwrap_or_else(|| {
            let mut fresh = Map::new();
            fresh.insert("_from_model_config".into(), json!(true));
            fresh
        });
        let ours = [
            ("bos_token_id", json!(self.config.bos_token_id)),
            ("eos_token_id", ids_to_json(&self.config.eos_token_ids)),
        ];
        for (key, value) in ours {
            if !value.is_null() {
                map.entry(key).or_insert(value);
            }
        }
        map
    }
}

/// The name that transformers gives a type.
fn dtype_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Float => Some("float32"),
        Kind::Double => Some("float64"),
        Kind::BFloat16 => Some("bfloat16"),
        Kind::Half => Some("float16"),
        _ => None,
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::weights(path, format!("cannot be written: {error}")))?;
    text.push('\n');
    std::fs::write(path, text).map_err(Error::io(path))?;
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}
