//! Reads a model: every tensor that the config calls for must be there, in its shape, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tch::{Device, Kind};

use super::tensors::TensorFile;
use super::{GENERATION_CONFIG, INDEX, SINGLE};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::{Error, Result};

impl Decoder {
    /// Reads the model of a Hugging Face folder, in whatever type it is stored, into weights of kind `kind`.
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let config = Config::read(folder)?;
        let mut decoder = Self::unset(&config, device, kind);
        let mut missing: BTreeMap<String, Vec<i64>> =
            decoder.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.tensor.size())).collect();
        let files = weight_files(folder)?;
        for (path, listed) in &files {
            let bytes = palimpsest_torch::map_file(path).map_err(Error::io(path))?;
            let file = TensorFile::parse(path, &bytes)?;
            let mut names: BTreeSet<&str> = file.names().into_iter().collect();
            if let Some(absent) = listed.iter().find(|name| !names.contains(name.as_str())) {
                return Err(Error::weights(path, format!("{absent} is missing, though {INDEX} says that it is here")));
            }
            names.retain(|name| !is_redundant(name, &config));
            for name in names {
                let Some(size) = missing.remove(name) else {
                    let problem = match decoder.parameter(name) {
                        Some(_) => format!("{name} is in another file of the folder, too"),
                        None => format!("{name} is no tensor of the model that config.json describes"),
                    };
                    return Err(Error::weights(path, problem));
                };
                let found = file.size(name)?;
                if found != size {
                    let problem = format!("{name} has shape {found:?}, but config.json calls for {size:?}");
                    return Err(Error::weights(path, problem));
                }
                if let Some(parameter) = decoder.parameter(name) {
                    file.copy_into(name, parameter)?;
                }
            }
        }
        if let Some(name) = missing.keys().next() {
            let place = if let [(path, _)] = files.as_slice() { path.as_path() } else { folder };
            return Err(Error::weights(place, format!("{name} is missing, which config.json calls for")));
        }
        decoder.generation_config = generation_config(folder)?;
        Ok(decoder)
    }
}

/// The files of weights, each with the names that the index says it holds.
fn weight_files(folder: &Path) -> Result<Vec<(PathBuf, Vec<String>)>> {
    let single = folder.join(SINGLE);
    if single.exists() {
        return Ok(vec![(single, Vec::new())]);
    }
    let index = folder.join(INDEX);
    if !index.exists() {
        return Err(Error::weights(folder, format!("holds neither {SINGLE} nor {INDEX}; give a folder with one")));
    }
    let text = std::fs::read_to_string(&index).map_err(Error::io(&index))?;
    let parsed: Value =
        serde_json::from_str(&text).map_err(|error| Error::weights(&index, format!("is not JSON: {error}")))?;
    let Some(map) = parsed.get("weight_map").and_then(Value::as_object) else {
        return Err(Error::weights(&index, "weight_map is missing"));
    };
    let mut files: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for (name, file) in map {
        // A shard is a file of the folder itself: a path that leads elsewhere is not followed.
        let Some(file) = file.as_str().filter(|file| !file.is_empty() && !file.contains(['/', '\\'])) else {
            return Err(Error::weights(&index, format!("{name} is not in a file of the folder but in {file}")));
        };
        files.entry(folder.join(file)).or_default().push(name.clone());
    }
    Ok(files.into_iter().collect())
}

/// Tensors that other programs write along though they follow from the rest.
fn is_redundant(name: &str, config: &Config) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight")
}

fn generation_config(folder: &Path) -> Result<Option<Map<String, Value>>> {
    let path = folder.join(GENERATION_CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let map =
        serde_json::from_str(&text).map_err(|error| Error::weights(&path, format!("is not a JSON object: {error}")))?;
    Ok(Some(map))
}
