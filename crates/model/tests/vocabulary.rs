//! Extension of the vocabulary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use palimpsest_model::{Batch, Config, Decoder, ForwardOptions, Initialization};
use serde_json::json;
use tch::{Device, IndexOp, Kind, Tensor};

fn mk_model(is_tied: bool, kind: Kind) -> Decoder {
    let fields = json!({
        "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "tie_word_embeddings": is_tied,
    });
    let config = Config::from_json(fields.as_object().unwrap(), "test").unwrap();
    Decoder::random(&config, 5, Device::Cpu, kind).unwrap()
}

#[test]
fn old_rows_keep_every_bit_and_new_rows_are_means() {
    let sources = [vec![3], vec![4, 5, 5], vec![]];
    for (is_tied, kind) in [(false, Kind::Float), (true, Kind::Float), (false, Kind::BFloat16), (false, Kind::Double)] {
        let before = mk_model(is_tied, kind);
        let mut model = mk_model(is_tied, kind);
        model.resize_vocabulary(&sources, Initialization::Mean, 1).unwrap();
        assert_eq!(model.config.vocab_size, 43);
        assert_eq!(model.config.to_json("float32")["vocab_size"], json!(43));
        for (old, new) in before.parameters().iter().zip(model.parameters()) {
            assert_eq!(old.name, new.name);
            assert!(new.tensor.requires_grad() && new.tensor.is_leaf());
            let rows = old.tensor.size()[0];
            assert_eq!(new.tensor.i(0..rows), old.tensor, "{}", old.name);
            if ["model.embed_tokens.weight", "lm_head.weight"].contains(&old.name.as_str()) {
                let wide = old.tensor.detach().to_kind(Kind::Double);
                let mean = |ids: &[i64]| {
                    wide.index_select(0, &Tensor::from_slice(ids)).mean_dim([0i64].as_slice(), false, None)
                };
                let all: Vec<i64> = (0..40).collect();
                let means = Tensor::stack(&[mean(&[3]), mean(&[4, 5, 5]), mean(&all)], 0);
                assert_eq!(new.tensor.i(40..43), means.to_kind(kind), "{}", old.name);
            } else {
                assert_eq!(new.tensor.size(), old.tensor.size());
            }
        }
        assert_eq!(model.parameters().len(), before.parameters().len());
    }
}

#[test]
fn the_old_vocabularys_logits_stay() {
    let batch = Batch::of_documents(&Tensor::randint(40, [2, 9], (Kind::Int64, Device::Cpu)));
    let options = ForwardOptions { compute: Kind::Double, ..ForwardOptions::default() };
    let logits = |model: &Decoder| model.logits(&model.hidden_states(&batch, &options).unwrap()).unwrap();
    let before = logits(&mk_model(false, Kind::Double));
    let mut model = mk_model(false, Kind::Double);
    model.resize_vocabulary(&[vec![1, 2], vec![7]], Initialization::Mean, 1).unwrap();
    let after = logits(&model);
    assert_eq!(after.size(), [2, 9, 42]);
    assert!((after.i((.., .., 0..40)) - &before).abs().max().double_value(&[]) < 1e-12);
    // The head's new row is the old one's, so its logit is the same.
    assert!((after.i((.., .., 41)) - before.i((.., .., 7))).abs().max().double_value(&[]) < 1e-12);
}

#[test]
fn random_rows_are_spread_as_a_new_models_and_depend_on_the_seed() {
    let sources: Vec<Vec<u32>> = (0..500).map(|id| vec![id % 40]).collect();
    let extended = |seed| {
        let mut model = mk_model(false, Kind::Float);
        model.resize_vocabulary(&sources, Initialization::Random, seed).unwrap();
        model.parameter("lm_head.weight").unwrap().i(40..).detach()
    };
    let rows = extended(1);
    assert!((rows.std(true).double_value(&[]) / 0.02 - 1.0).abs() < 0.05);
    assert_eq!(rows, extended(1));
    assert_ne!(rows, extended(2));
}

#[test]
fn an_unknown_source_is_refused() {
    let error = mk_model(true, Kind::Float).resize_vocabulary(&[vec![40]], Initialization::Mean, 1).unwrap_err();
    assert_eq!(error.to_string(), "a new vocabulary entry is made from id 40, but the model's vocabulary has 40 ids");
}
