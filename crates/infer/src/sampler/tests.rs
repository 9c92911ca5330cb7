//! The filters against transformers' own processors, and the draws against probabilities.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Sampler, Sampling, Scratch, filter, likeliest, pick};

/// What `tests/parity/sampling_reference.py` prints, unless its Python is absent, which fails in CI.
fn references(count: usize) -> Option<String> {
    let default = || Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/palimpsest");
    let python = std::env::var_os("PALIMPSEST_CACHE").map_or_else(default, PathBuf::from).join("venv/bin/python");
    if !python.exists() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "there is no {}", python.display());
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "there is no {}: scripts/parity-venv.sh makes it",
            python.display()
        );
        println!("skipped: there is no {}: scripts/parity-venv.sh makes it", python.display());
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/sampling_reference.py");
    let output = Command::new(python).env("PYTHONSAFEPATH", "1").arg(script).arg(count.to_string()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn settings_of(value: &Value) -> Sampling {
    let number = |name: &str| value[name].as_f64().unwrap();
    let biases = value["logit_bias"].as_object().unwrap();
    Sampling {
        temperature: number("temperature"),
        top_k: value["top_k"].as_u64().unwrap() as usize,
        top_p: number("top_p"),
        min_p: number("min_p"),
        repetition_penalty: number("repetition_penalty"),
        logit_bias: biases.iter().map(|(token, bias)| (token.parse().unwrap(), bias.as_f64().unwrap())).collect(),
        ..Sampling::default()
    }
}

#[test]
fn filters_leave_what_transformers_leaves() {
    let Some(lines) = references(300) else { return };
    let mut cases = 0;
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let sampling = settings_of(&case["settings"]);
        sampling.check().unwrap();
        let mut logits: Vec<f32> = serde_json::from_value(case["logits"].clone()).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
        let theirs: Vec<(u32, f64)> = serde_json::from_value(case["left"].clone()).unwrap();
        Sampler::new(sampling.clone(), &tokens).change(&mut logits);
        let mut scratch = Scratch::default();
        filter(&logits, likeliest(&logits).unwrap().1, &sampling, &mut scratch);
        let Scratch { candidates, weights, .. } = scratch;
        let total: f64 = weights.iter().sum();
        let ours: HashMap<u32, f64> =
            candidates.iter().zip(&weights).map(|((token, _), weight)| (*token, weight / total)).collect();
        let kept = |probabilities: &mut dyn Iterator<Item = (u32, f64)>| {
            // What is too unlikely to be told from nothing may be either.
            let mut tokens: Vec<u32> =
                probabilities.filter(|(_, share)| *share > 1e-300).map(|(token, _)| token).collect();
            tokens.sort_unstable();
            tokens
        };
        assert_eq!(
            kept(&mut ours.iter().map(|(token, share)| (*token, *share))),
            kept(&mut theirs.iter().copied()),
            "{}",
            case["settings"]
        );
        for (token, expected) in theirs {
            let found = ours.get(&token).copied().unwrap_or(0.0);
            // Penalties round logits to float32, as transformers does with float32 logits.
            assert!((found - expected).abs() < 1e-5, "{}: {token} has {found}, not {expected}", case["settings"]);
        }
        cases += 1;
    }
    assert_eq!(cases, 300);
}

#[test]
fn draws_follow_the_probabilities_and_the_seed() {
    let logits = [0.0f32, 1.0, -1.0, 0.5];
    let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    let scratch = &mut Scratch::default();
    let mut sampler = Sampler::new(Sampling { seed: 9, ..Sampling::default() }, &[]);
    let drawn: Vec<u32> = (0..20_000).map(|_| sampler.draw(&logits, scratch).unwrap()).collect();
    for (token, logit) in logits.iter().enumerate() {
        let share = drawn.iter().filter(|drawn| **drawn == token as u32).count() as f64 / 20_000.0;
        assert!((share - f64::from(*logit).exp() / total).abs() < 0.015, "{token}: {share}");
    }
    let mut again = Sampler::new(Sampling { seed: 9, ..Sampling::default() }, &[]);
    assert!(drawn.iter().all(|token| again.draw(&logits, scratch).unwrap() == *token));
    let mut other = Sampler::new(Sampling { seed: 10, ..Sampling::default() }, &[]);
    assert!(drawn.iter().any(|token| other.draw(&logits, scratch).unwrap() != *token));
}

#[test]
fn what_is_impossible_is_never_drawn_and_filters_that_leave_all_change_no_draw() {
    assert_eq!(pick(&[0.0, 0.5, 0.25, 0.0], 0.0), Some(1));
    assert_eq!(pick(&[0.0, 0.5, 0.25, 0.0], 0.7), Some(2));
    assert_eq!(pick(&[0.0, 0.5, 0.25, 0.0], 1.0), Some(2));
    assert_eq!(pick(&[0.0], 0.5), None);
    let logits: Vec<f32> = (0..500).map(|index| ((index * 37) % 101) as f32 * 0.1).collect();
    let draws = |sampling: Sampling| {
        let mut sampler = Sampler::new(Sampling { seed: 3, temperature: 1.5, ..sampling }, &[]);
        (0..200).map(|_| sampler.draw(&logits, &mut Scratch::default()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(draws(Sampling::default()), draws(Sampling { min_p: 1e-300, ..Sampling::default() }));
}

#[test]
fn top_k_leaves_those_as_likely_as_the_last_of_them_too() {
    let logits: Vec<f32> = (0..2_000).map(|index| ((index * 37) % 1_000) as f32 * 0.01).collect();
    for top_k in [1, 2, 3, 256, 257, 1_999] {
        let mut scratch = Scratch::default();
        filter(&logits, likeliest(&logits).unwrap().1, &Sampling { top_k, ..Sampling::default() }, &mut scratch);
        // Each value comes twice.
        let least = (1_000 - top_k.div_ceil(2)) as f32 * 0.01;
        let expected: Vec<u32> = (0..2_000).filter(|token| logits[*token as usize] >= least).collect();
        let left: Vec<u32> = scratch.candidates.iter().map(|(token, _)| *token).collect();
        assert_eq!((left.len(), left), (top_k.next_multiple_of(2), expected), "{top_k}");
    }
}

#[test]
fn the_likeliest_is_the_first_of_the_largest() {
    let mut logits: Vec<f32> = (0..1000).map(|index| ((index * 37) % 101) as f32 - 50.0).collect();
    assert_eq!(likeliest(&logits), Some((30, 50.0)));
    logits[7] = f32::NEG_INFINITY;
    assert_eq!(likeliest(&logits), Some((30, 50.0)));
    for damage in [f32::NAN, f32::INFINITY] {
        for place in [0, 500, 999] {
            let mut damaged = logits.clone();
            damaged[place] = damage;
            assert_eq!(likeliest(&damaged), None, "{damage} at {place}");
        }
    }
    assert_eq!(likeliest(&[f32::NEG_INFINITY; 20]), None);
    assert_eq!(likeliest(&[]), None);
    let mut sampler = Sampler::new(Sampling::default(), &[]);
    let error = sampler.draw(&[f32::NAN], &mut Scratch::default()).unwrap_err().to_string();
    assert_eq!(error, "the model's logits are not numbers; its weights may be damaged");
}

#[test]
fn penalties_count_what_has_come() {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let draws = |sampling: Sampling, prompt: &[u32], logits: &[f32]| {
        let mut sampler = Sampler::new(sampling, prompt);
        (0..6).map(|_| sampler.draw(logits, &mut Scratch::default()).unwrap()).collect::<Vec<_>>()
    };
    let logits = [1.0f32, 2.0, 1.5, -1.0];
    assert_eq!(draws(greedy.clone(), &[], &logits), [1; 6]);
    // 0.6 off each time: 2.0, 1.4, 0.8 for token 1; 1.5, 0.9 for token 2; 1.0 for token 0.
    let frequency = Sampling { frequency_penalty: 0.6, ..greedy.clone() };
    assert_eq!(draws(frequency, &[1, 1, 1], &logits), [1, 2, 1, 0, 2, 1], "what the prompt has is not counted");
    let presence = Sampling { presence_penalty: 0.8, ..greedy.clone() };
    assert_eq!(draws(presence, &[1], &logits), [1, 2, 1, 1, 1, 1], "once for however often");
    let repetition = Sampling { repetition_penalty: 2.0, ..greedy.clone() };
    assert_eq!(draws(repetition, &[1], &logits), [2, 0, 1, 1, 1, 1], "the prompt counts, too");
    let bias = Sampling { logit_bias: [(3, 4.0), (99, 100.0)].into(), ..greedy };
    assert_eq!(draws(bias, &[], &logits), [3; 6]);
}

#[test]
fn settings_out_of_bounds_are_refused_by_name() {
    let refused = |sampling: Sampling, message: &str| assert_eq!(sampling.check().unwrap_err().to_string(), message);
    let mk = Sampling::default;
    refused(Sampling { temperature: -1.0, ..mk() }, "temperature is -1; it must be 0 or more");
    refused(Sampling { temperature: f64::NAN, ..mk() }, "temperature is NaN; it must be 0 or more");
    refused(Sampling { top_p: 0.0, ..mk() }, "top_p is 0; it must be above 0 and at most 1");
    refused(Sampling { min_p: 1.5, ..mk() }, "min_p is 1.5; it must be from 0 to 1");
    refused(Sampling { repetition_penalty: 0.0, ..mk() }, "repetition_penalty is 0; it must be above 0");
    refused(Sampling { frequency_penalty: 3.0, ..mk() }, "frequency_penalty is 3; it must be from -2 to 2");
    refused(Sampling { presence_penalty: -3.0, ..mk() }, "presence_penalty is -3; it must be from -2 to 2");
    refused(Sampling { logit_bias: [(1, 101.0)].into(), ..mk() }, "logit_bias is 101; it must be from -100 to 100");
}
