//! Sampling against transformers' warpers, and the cache against whole passes.

use std::collections::HashMap;
use std::ops::ControlFlow;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::cache::Cache;
use super::sampler::{Sampler, candidates};
use super::{GenerateOptions, generate};
use crate::{Batch, Config, Decoder, ForwardOptions};

#[allow(clippy::duplicate_mod, reason = "the integration tests' own")]
#[path = "../../tests/support/mod.rs"]
mod support;

fn mk_model(kind: Kind) -> Decoder {
    let fields = json!({
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 600, "initializer_range": 0.3,
    });
    Decoder::random(&Config::from_json(fields.as_object().unwrap(), "test").unwrap(), 1, Device::Cpu, kind).unwrap()
}

#[test]
fn filters_leave_what_transformers_leaves() {
    let Some(references) = support::references() else { return };
    let reference = references.tensors("sampling.safetensors");
    let get = |key: String| Vec::<f64>::try_from(&reference[&key]).unwrap();
    let cases = reference.keys().filter(|name| name.ends_with(".settings")).count();
    assert!(cases > 5);
    for index in 0..cases {
        let settings = get(format!("{index}.settings"));
        let options = GenerateOptions {
            temperature: settings[0],
            top_k: settings[1] as usize,
            top_p: settings[2],
            ..GenerateOptions::default()
        };
        let kept: HashMap<u32, f64> = candidates(&get(format!("{index}.logits")), &options).into_iter().collect();
        let total: f64 = kept.values().sum();
        for (id, theirs) in get(format!("{index}.probabilities")).into_iter().enumerate() {
            let ours = kept.get(&(id as u32)).map_or(0.0, |weight| weight / total);
            assert!((ours - theirs).abs() < 1e-12, "{settings:?}: id {id} has {ours}, not {theirs}");
        }
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = Tensor::from_slice(&[0.0f32, 1.0, -1.0, 0.5]);
    let expected = Vec::<f64>::try_from(logits.softmax(-1, Kind::Double)).unwrap();
    let mut sampler = Sampler::new(&GenerateOptions { seed: 9, ..GenerateOptions::default() });
    let mut counts = [0.0; 4];
    for _ in 0..20_000 {
        counts[sampler.draw(&logits).unwrap() as usize] += 1.0 / 20_000.0;
    }
    assert!(counts.iter().zip(&expected).all(|(share, expected)| (share - expected).abs() < 0.015), "{counts:?}");
}

#[test]
fn the_cache_gives_what_a_whole_pass_gives() {
    let model = mk_model(Kind::Double);
    let ids: Vec<u32> = (0..300).map(|index| (index * 7 + 3) % 50).collect();
    let tensor = Tensor::from_slice(&ids.iter().map(|id| i64::from(*id)).collect::<Vec<_>>()).view([1, -1]);
    let options = ForwardOptions { compute: Kind::Double, ..ForwardOptions::default() };
    let whole = model.logits(&model.hidden_states(&Batch::of_documents(&tensor), &options).unwrap()).unwrap();
    let mut cache = Cache::new(&model, Kind::Double);
    let mut end = 0;
    // A prompt, single ids, and several at once, past the first growth of the room.
    for count in [5, 1, 1, 4, 239, 30, 1, 19] {
        let logits = cache.extend(&ids[end..end + count]).unwrap();
        end += count;
        assert_eq!(cache.length(), end as i64);
        let expected = whole.get(0).get(end as i64 - 1);
        let difference = (logits - expected).abs().max().double_value(&[]);
        assert!(difference < 1e-11, "after {end} ids: {difference:e}");
    }
}

#[test]
fn generation_is_a_function_of_the_seed_and_stops_where_told() {
    let model = mk_model(Kind::Float);
    let sampled =
        |options: &GenerateOptions| generate(&model, &[1, 2, 3], options, |_| ControlFlow::Continue(())).unwrap();
    let options = GenerateOptions { max_new_tokens: 30, seed: 4, ..GenerateOptions::default() };
    let ids = sampled(&options);
    assert_eq!((ids.len(), &ids), (30, &sampled(&options)));
    assert_ne!(ids, sampled(&GenerateOptions { seed: 5, ..options.clone() }));
    let end = ids.iter().position(|id| *id == ids[6]).unwrap();
    assert_eq!(sampled(&GenerateOptions { eos: vec![ids[6]], ..options.clone() }), ids[..=end]);
    let mut seen = 0;
    let broken = generate(&model, &[1, 2, 3], &options, |_| {
        seen += 1;
        if seen == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(broken.unwrap(), ids[..4]);
    let full = vec![1; 599];
    let last = generate(&model, &full, &options, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(last.len(), 2, "one id after 599, and one after the 600th");
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let model = mk_model(Kind::Float);
    let error = |prompt: &[u32], options: GenerateOptions| {
        generate(&model, prompt, &options, |_| ControlFlow::Continue(())).unwrap_err().to_string()
    };
    let options = GenerateOptions::default;
    assert_eq!(error(&[], options()), "the prompt is empty; give at least one id, such as BOS");
    assert_eq!(error(&[50], options()), "the prompt holds id 50, but the model's vocabulary has 50 ids");
    assert_eq!(error(&vec![1; 601], options()), "the prompt has 601 ids, but the model's context holds 600");
    assert_eq!(
        error(&[1], GenerateOptions { temperature: 0.0, ..options() }),
        "temperature 0 is not above 0; for the likeliest id choose greedy"
    );
    assert_eq!(error(&[1], GenerateOptions { top_p: 1.5, ..options() }), "top-p 1.5 is not above 0 and at most 1");
    let mut norm = model.parameter("model.norm.weight").unwrap().detach();
    let _ = norm.fill_(f64::NAN);
    assert_eq!(
        error(&[1], GenerateOptions { greedy: true, ..options() }),
        "the model's logits are not numbers; its weights may be damaged"
    );
}
