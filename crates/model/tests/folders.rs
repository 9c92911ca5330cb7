//! Hugging Face folders: what is written is read again, and what is wrong is named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use palimpsest_model::{Config, Decoder, read_tensors, write_tensors};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

fn mk_model(is_tied: bool) -> Decoder {
    let fields = json!({
        "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "tie_word_embeddings": is_tied, "bos_token_id": 1, "eos_token_id": [2, 3], "my_field": {"kept": true},
    });
    let config = Config::from_json(fields.as_object().unwrap(), "test").unwrap();
    Decoder::random(&config, 5, Device::Cpu, Kind::Float).unwrap()
}

fn saved() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    mk_model(false).save(folder.path(), Kind::Float).unwrap();
    folder
}

fn read_json(path: &Path) -> Map<String, Value> {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn open_error(folder: &Path) -> String {
    Decoder::open(folder, Device::Cpu, Kind::Float).unwrap_err().to_string().replace(&folder.display().to_string(), "F")
}

/// Rewrites the file of weights with some changed.
fn change(folder: &Path, edit: impl FnOnce(&mut Vec<(String, Tensor)>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path).unwrap();
    edit(&mut tensors);
    write_tensors(&path, &tensors).unwrap();
}

#[test]
fn a_model_is_read_as_it_was_written_in_any_type() {
    for is_tied in [false, true] {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double] {
            let model = mk_model(is_tied);
            let folder = tempfile::tempdir().unwrap();
            model.save(folder.path(), kind).unwrap();
            let names: Vec<String> = read_tensors(&folder.path().join("model.safetensors"))
                .unwrap()
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(names.contains(&"lm_head.weight".to_owned()), !is_tied);
            for opened_kind in [Kind::Float, Kind::Double] {
                let again = Decoder::open(folder.path(), Device::Cpu, opened_kind).unwrap();
                for (before, after) in model.parameters().iter().zip(again.parameters()) {
                    assert_eq!(before.name, after.name);
                    assert_eq!(before.tensor.to_kind(kind).to_kind(opened_kind), after.tensor, "{}", before.name);
                    assert!(after.tensor.requires_grad());
                }
            }
        }
    }
}

#[test]
fn unknown_fields_and_the_generation_config_are_kept() {
    let folder = saved();
    let generation = folder.path().join("generation_config.json");
    assert_eq!(read_json(&generation)["eos_token_id"], json!([2, 3]));
    fs::write(&generation, r#"{"temperature": 0.6, "eos_token_id": 9}"#).unwrap();
    let model = Decoder::open(folder.path(), Device::Cpu, Kind::Float).unwrap();
    let other = tempfile::tempdir().unwrap();
    model.save(&other.path().join("made"), Kind::BFloat16).unwrap();
    let generation = read_json(&other.path().join("made/generation_config.json"));
    assert_eq!(Value::Object(generation), json!({"temperature": 0.6, "eos_token_id": 9, "bos_token_id": 1}));
    let config = read_json(&other.path().join("made/config.json"));
    assert_eq!(config["my_field"], json!({"kept": true}));
    assert_eq!((&config["torch_dtype"], &config["architectures"]), (&json!("bfloat16"), &json!(["LlamaForCausalLM"])));
}

#[test]
fn what_is_wrong_is_named() {
    let folder = saved();
    change(folder.path(), |tensors| tensors.retain(|(name, _)| name != "model.norm.weight"));
    assert_eq!(
        open_error(folder.path()),
        "F/model.safetensors: model.norm.weight is missing, which config.json calls for"
    );

    let folder = saved();
    change(folder.path(), |tensors| tensors.push(("extra".to_owned(), Tensor::from(1.0))));
    assert_eq!(
        open_error(folder.path()),
        "F/model.safetensors: extra is no tensor of the model that config.json describes"
    );

    let folder = saved();
    change(folder.path(), |tensors| tensors.iter_mut().for_each(|(_, tensor)| *tensor = transposed(tensor)));
    assert_eq!(
        open_error(folder.path()),
        "F/model.safetensors: lm_head.weight has shape [16, 40], but config.json calls for [40, 16]"
    );

    let folder = saved();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(
        open_error(folder.path()),
        "F: holds neither model.safetensors nor model.safetensors.index.json; give a folder with one"
    );

    let folder = tempfile::tempdir().unwrap();
    assert!(open_error(folder.path()).starts_with("F/config.json: No such file or directory"));
    fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(open_error(folder.path()).starts_with("F/config.json: is not a JSON object: "));
}

fn transposed(tensor: &Tensor) -> Tensor {
    if tensor.dim() == 2 { tensor.tr().contiguous() } else { tensor.shallow_clone() }
}

#[test]
fn a_damaged_file_is_refused_wherever_it_is_cut() {
    let folder = saved();
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 4, 8, 100, 1000, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = open_error(folder.path());
        assert!(error.starts_with("F/model.safetensors: is not a whole safetensors file ("), "{length}: {error}");
    }
    let mut garbled = whole.clone();
    garbled[9] = b'!';
    fs::write(&path, garbled).unwrap();
    assert!(open_error(folder.path()).starts_with("F/model.safetensors: is not a whole safetensors file ("));
}

#[test]
fn shards_are_read_by_their_index() {
    let model = mk_model(false);
    let folder = saved();
    let single = folder.path().join("model.safetensors");
    let tensors = read_tensors(&single).unwrap();
    fs::remove_file(&single).unwrap();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let mut weight_map = Map::new();
    for (file, part) in [("a.safetensors", first), ("b.safetensors", second)] {
        write_tensors(&folder.path().join(file), part).unwrap();
        weight_map.extend(part.iter().map(|(name, _)| (name.clone(), json!(file))));
    }
    let index = folder.path().join("model.safetensors.index.json");
    let write_index = |map: &Map<String, Value>| fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    write_index(&weight_map);
    let opened = Decoder::open(folder.path(), Device::Cpu, Kind::Float).unwrap();
    assert!(model.parameters().iter().zip(opened.parameters()).all(|(left, right)| left.tensor == right.tensor));

    let moved = first[0].0.clone();
    let mut wrong = weight_map.clone();
    wrong.insert(moved.clone(), json!("b.safetensors"));
    write_index(&wrong);
    let error = open_error(folder.path());
    assert_eq!(
        error,
        format!("F/b.safetensors: {moved} is missing, though model.safetensors.index.json says that it is here")
    );
    wrong.insert(moved.clone(), json!("../b.safetensors"));
    write_index(&wrong);
    assert_eq!(
        open_error(folder.path()),
        format!("F/model.safetensors.index.json: {moved} is not in a file of the folder but in \"../b.safetensors\"")
    );
    wrong.insert(moved, json!("c.safetensors"));
    write_index(&wrong);
    assert!(open_error(folder.path()).starts_with("F/c.safetensors: No such file or directory"));
    write_tensors(&folder.path().join("b.safetensors"), &tensors).unwrap();
    write_index(&weight_map);
    assert!(open_error(folder.path()).ends_with("is in another file of the folder, too"));
    fs::write(&index, "{}").unwrap();
    assert_eq!(open_error(folder.path()), "F/model.safetensors.index.json: weight_map is missing");
}

#[test]
fn shards_are_written_with_their_index() {
    let model = mk_model(false);
    let folder = tempfile::tempdir().unwrap();
    model.save_in_shards(folder.path(), Kind::Float, 4000).unwrap();
    assert!(!folder.path().join("model.safetensors").exists());
    let index = read_json(&folder.path().join("model.safetensors.index.json"));
    let weight_map = index["weight_map"].as_object().unwrap();
    let files: std::collections::BTreeSet<&str> = weight_map.values().map(|file| file.as_str().unwrap()).collect();
    let count = files.len();
    assert!(count > 2 && weight_map.len() == model.parameters().len());
    let mut elements = 0;
    for (number, file) in (1..).zip(files) {
        assert_eq!(file, format!("model-{number:05}-of-{count:05}.safetensors"));
        let tensors = read_tensors(&folder.path().join(file)).unwrap();
        let in_shard: usize = tensors.iter().map(|(_, tensor)| tensor.numel()).sum();
        assert!(in_shard * 4 <= 4000, "{file} holds {in_shard} numbers");
        elements += in_shard;
    }
    assert_eq!(index["metadata"], json!({"total_parameters": elements, "total_size": 4 * elements}));
    let again = Decoder::open(folder.path(), Device::Cpu, Kind::Float).unwrap();
    assert!(model.parameters().iter().zip(again.parameters()).all(|(left, right)| left.tensor == right.tensor));
}

#[test]
fn redundant_tensors_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    mk_model(true).save(folder.path(), Kind::Float).unwrap();
    change(folder.path(), |tensors| {
        let embedding = tensors.iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap().1.copy();
        tensors.push(("lm_head.weight".to_owned(), embedding));
        tensors.push(("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), Tensor::from(1.0)));
    });
    Decoder::open(folder.path(), Device::Cpu, Kind::Float).unwrap();
}

#[test]
fn tensors_of_every_kind_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let kinds = [
        Kind::Double,
        Kind::Float,
        Kind::BFloat16,
        Kind::Half,
        Kind::Int64,
        Kind::Int,
        Kind::Int8,
        Kind::Uint8,
        Kind::Bool,
    ];
    let tensors: Vec<(String, Tensor)> = kinds
        .iter()
        .map(|kind| (format!("{kind:?}"), Tensor::from_slice(&[0i64, 1, 1, 0, 1, 0]).view([2, 3]).to_kind(*kind).tr()))
        .collect();
    write_tensors(&path, &tensors).unwrap();
    let again: std::collections::HashMap<_, _> = read_tensors(&path).unwrap().into_iter().collect();
    for (name, tensor) in tensors {
        assert_eq!((again[&name].kind(), again[&name].size()), (tensor.kind(), vec![3, 2]));
        assert_eq!(again[&name], tensor, "{name}");
    }
    let unwritable = Path::new("/proc/none/x.safetensors");
    let error = write_tensors(unwritable, &[("x", Tensor::from(1.0))]).unwrap_err().to_string();
    assert!(error.starts_with("/proc/none/x.safetensors: "), "{error}");
}
