//! Reading, refusing and writing of configs.

use serde_json::{Map, Value, json};

use super::{Config, RopeScaling};

fn small() -> Map<String, Value> {
    let fields = json!({
        "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0,
    });
    fields.as_object().unwrap().clone()
}

fn with(key: &str, value: Value) -> Map<String, Value> {
    let mut map = small();
    map.insert(key.into(), value);
    map
}

fn refusal(key: &str, value: Value) -> String {
    Config::from_json(&with(key, value), "config.json").unwrap_err().to_string()
}

#[test]
fn absent_fields_default_as_in_transformers() {
    let config = Config::from_json(&small(), "config.json").unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim, config.max_position_embeddings), (4, 8, 2048));
    assert_eq!((config.rms_norm_eps, config.rope_theta, config.initializer_range), (1e-6, 10_000.0, 0.02));
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(1), [2, 3].as_slice()));
    assert_eq!(config.rope_scaling, RopeScaling::Default);
    assert!(!config.tie_word_embeddings && !config.attention_bias && !config.mlp_bias);
}

#[test]
fn what_we_do_not_compute_is_refused_by_name() {
    assert_eq!(
        refusal("model_type", json!("gpt2")),
        "config.json: model_type: gpt2 is not supported; llama and mistral are"
    );
    assert_eq!(refusal("hidden_act", json!("gelu")), "config.json: hidden_act: gelu is not supported; silu is");
    assert_eq!(
        refusal("rope_scaling", json!({"type": "spiral", "factor": 2.0})),
        "config.json: rope_scaling: rope_type: spiral is not supported; default, linear, dynamic, yarn, longrope and llama3 are"
    );
    assert_eq!(
        refusal("num_key_value_heads", json!(3)),
        "config.json: num_key_value_heads: 3 does not divide num_attention_heads, 4"
    );
    assert_eq!(refusal("vocab_size", json!(0)), "config.json: vocab_size: 0 is not a whole number of at least 1");
    for (key, value) in [
        ("attention_dropout", json!(0.1)),
        ("sliding_window", json!(128)),
        ("quantization_config", json!({})),
        ("architectures", json!(["LlamaForSequenceClassification"])),
        ("head_dim", json!(7)),
        ("tie_word_embeddings", json!("yes")),
        ("rms_norm_eps", json!("1e-5")),
        ("rope_parameters", json!({"rope_type": "linear"})),
        ("rope_parameters", json!({"rope_type": "yarn", "factor": -2})),
        ("rope_parameters", json!({"rope_type": "dynamic"})),
        ("rope_parameters", json!({"rope_type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [1]})),
        ("rope_parameters", json!([])),
        ("eos_token_id", json!("</s>")),
    ] {
        let error = refusal(key, value);
        assert!(error.starts_with("config.json: ") && error.contains(key), "{error}");
    }
    let mut map = small();
    map.remove("hidden_size");
    let error = Config::from_json(&map, "spec.model.architecture").unwrap_err().to_string();
    assert_eq!(error, "spec.model.architecture: hidden_size: is missing; give a whole number of at least 1");
}

#[test]
fn both_spellings_of_rope_are_read_and_written() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    let mut old = with("rope_scaling", scaling.clone());
    old.insert("rope_theta".into(), json!(500_000.0));
    let mut parameters = scaling;
    parameters["rope_theta"] = json!(500_000.0);
    let old = Config::from_json(&old, "old").unwrap();
    let new = Config::from_json(&with("rope_parameters", parameters), "new").unwrap();
    assert_eq!((old.rope_theta, &old.rope_scaling), (new.rope_theta, &new.rope_scaling));
    assert!(matches!(old.rope_scaling, RopeScaling::Llama3 { original_max_position_embeddings: 64, .. }));
    for config in [old, new] {
        let written = config.to_json("float32");
        assert_eq!(written["rope_theta"], json!(500_000.0));
        assert_eq!(written["rope_scaling"]["rope_type"], json!("llama3"));
        let again = Config::from_json(&written, "again").unwrap();
        assert_eq!((again.rope_theta, again.rope_scaling), (config.rope_theta, config.rope_scaling));
    }
}

#[test]
fn every_scaling_is_written_as_it_was_read() {
    let factors = json!([1.0, 1.5, 2.0, 2.5]);
    for scaling in [
        json!({"rope_type": "linear", "factor": 2.0}),
        json!({"rope_type": "dynamic", "factor": 2.0}),
        json!({"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": false}),
        json!({"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "factor": 4.0}),
    ] {
        let read = Config::from_json(&with("rope_scaling", scaling), "read").unwrap();
        let again = Config::from_json(&read.to_json("float32"), "again").unwrap();
        assert_eq!(read.rope_scaling, again.rope_scaling);
    }
}

#[test]
fn unknown_fields_are_kept_and_ours_updated() {
    let mut config = Config::from_json(&with("use_cache", json!(false)), "config.json").unwrap();
    config.vocab_size = 123;
    let written = config.to_json("bfloat16");
    assert_eq!((&written["use_cache"], &written["pad_token_id"]), (&json!(false), &json!(0)));
    assert_eq!((&written["vocab_size"], &written["torch_dtype"]), (&json!(123), &json!("bfloat16")));
    assert_eq!((&written["architectures"], &written["eos_token_id"]), (&json!(["LlamaForCausalLM"]), &json!([2, 3])));
}
