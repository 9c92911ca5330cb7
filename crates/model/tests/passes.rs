//! What must hold of any model, whatever its weights: no reference needed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use palimpsest_model::{Batch, Checkpointing, Config, Decoder, ForwardOptions, LossSum};
use serde_json::{Value, json};
use tch::{Device, IndexOp, Kind, Tensor};

const SEGMENTS: [&[i64]; 2] = [&[4, 9, 3], &[16]];

fn mk_model(changes: Value, kind: Kind) -> Decoder {
    let mut fields = json!({
        "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "initializer_range": 0.3, "attention_bias": true, "mlp_bias": true,
    });
    for (key, value) in changes.as_object().unwrap() {
        fields[key] = value.clone();
    }
    let config = Config::from_json(fields.as_object().unwrap(), "test").unwrap();
    let model = Decoder::random(&config, 3, Device::Cpu, kind).unwrap();
    for parameter in model.parameters() {
        // So that neither norms nor biases are trivial.
        let mut tensor = parameter.tensor.detach();
        let noise = Tensor::randn(tensor.size(), (kind, Device::Cpu)) * 0.05;
        let _ = tensor.g_add_(&noise);
    }
    model
}

fn mk_batch() -> Batch {
    let size = [2, 16];
    let mut batch = Batch::of_documents(&Tensor::randint(61, size, (Kind::Int64, Device::Cpu)));
    let ignored = Tensor::rand(size, (Kind::Float, Device::Cpu)).lt(0.2);
    batch.labels = Tensor::randint(61, size, (Kind::Int64, Device::Cpu)).masked_fill(&ignored, -100);
    batch.segments = SEGMENTS.iter().map(|lengths| lengths.to_vec()).collect();
    let positions: Vec<i64> =
        SEGMENTS.iter().flat_map(|lengths| lengths.iter().flat_map(|length| 0..*length)).collect();
    batch.positions = Tensor::from_slice(&positions).view(size);
    batch
}

fn double() -> ForwardOptions {
    ForwardOptions { compute: Kind::Double, ..ForwardOptions::default() }
}

fn gradients(model: &Decoder, batches: &[&Batch], options: &ForwardOptions) -> (LossSum, Vec<Tensor>) {
    model.zero_gradients().unwrap();
    let mut total = LossSum::default();
    for batch in batches {
        let loss = model.loss_and_backward(batch, 0.5, options).unwrap();
        total.sum += loss.sum;
        total.targets += loss.targets;
    }
    (total, model.gradients().unwrap().into_iter().map(|(_, gradient)| gradient.copy()).collect())
}

fn distance(left: &[Tensor], right: &[Tensor]) -> f64 {
    assert_eq!(left.len(), right.len());
    let parts = left
        .iter()
        .zip(right)
        .map(|(left, right)| (left - right).norm().double_value(&[]) / right.norm().double_value(&[]));
    parts.fold(0.0, f64::max)
}

/// Rows and stretches of them as batches of their own.
fn documents(batch: &Batch) -> Vec<Batch> {
    let mut alone = Vec::new();
    for (row, lengths) in (0..).zip(&batch.segments) {
        let mut start = 0;
        for length in lengths {
            let cut = |tensor: &Tensor| tensor.i((row..row + 1, start..start + length)).contiguous();
            let mut document = Batch::of_documents(&cut(&batch.input_ids));
            document.labels = cut(&batch.labels);
            alone.push(document);
            start += length;
        }
    }
    alone
}

#[test]
fn packed_documents_are_as_each_alone() {
    for changes in [json!({}), json!({"tie_word_embeddings": true}), json!({"num_key_value_heads": 4})] {
        let model = mk_model(changes, Kind::Double);
        let batch = mk_batch();
        let alone = documents(&batch);
        let (packed_loss, packed) = gradients(&model, &[&batch], &double());
        let (loss, each) = gradients(&model, &alone.iter().collect::<Vec<_>>(), &double());
        assert_eq!(packed_loss.targets, loss.targets);
        assert!((packed_loss.sum / loss.sum - 1.0).abs() < 1e-12);
        assert!(distance(&packed, &each) < 1e-11);
    }
}

#[test]
fn a_document_that_sees_its_neighbour_is_noticed() {
    let model = mk_model(json!({}), Kind::Double);
    let batch = mk_batch();
    let (right, _) = gradients(&model, &[&batch], &double());
    let (leaky, _) = gradients(&model, &[&batch.attending_to_whole_rows()], &double());
    assert!((right.sum / leaky.sum - 1.0).abs() > 1e-4);
}

#[test]
fn positions_decide_where_rows_attend_as_a_whole() {
    let model = mk_model(json!({}), Kind::Double);
    let running = mk_batch().attending_to_whole_rows();
    let mut restarting = mk_batch().attending_to_whole_rows();
    restarting.positions = mk_batch().positions;
    let (one, _) = gradients(&model, &[&restarting], &double());
    let (other, _) = gradients(&model, &[&running], &double());
    assert!((one.sum / other.sum - 1.0).abs() > 1e-4);
}

/// The whole logits and autograd's cross-entropy of them.
#[test]
fn chunked_loss_is_the_full_loss() {
    for kind in [Kind::Float, Kind::Double] {
        let model = mk_model(json!({}), kind);
        let batch = mk_batch();
        let options = ForwardOptions { compute: kind, ..ForwardOptions::default() };
        let hidden = model.hidden_states(&batch, &options).unwrap().set_requires_grad(true);
        let head = model.parameter("lm_head.weight").unwrap().detach().set_requires_grad(true);
        let logits = hidden.matmul(&head.tr()).view([-1, 61]);
        let labels = batch.labels.view([-1]);
        let full = logits.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Sum, -100, 0.0);
        (&full * 0.5).backward();
        let tolerance = if kind == Kind::Double { 1e-12 } else { 1e-5 };
        for loss_chunk in [0, 1, 5, 26, 1000] {
            let (loss, _) = gradients(&model, &[&batch], &ForwardOptions { loss_chunk, ..options.clone() });
            assert!((loss.sum / full.double_value(&[]) - 1.0).abs() < tolerance);
            let ours = model.parameter("lm_head.weight").unwrap().grad();
            assert!(distance(&[ours], &[head.grad()]) < tolerance);
            let losses = model.token_losses(&batch, &ForwardOptions { loss_chunk, ..options.clone() }).unwrap();
            assert_eq!(losses.size(), batch.labels.size());
            assert!((losses.sum(Kind::Double).double_value(&[]) / loss.sum - 1.0).abs() < tolerance);
            assert_eq!((losses * batch.labels.eq(-100)).abs().max().double_value(&[]), 0.0);
        }
    }
}

#[test]
fn checkpointing_changes_no_bit() {
    for compute in [Kind::Float, Kind::BFloat16] {
        let model = mk_model(json!({}), Kind::Float);
        let batch = mk_batch();
        let pass =
            |checkpointing| gradients(&model, &[&batch], &ForwardOptions { compute, checkpointing, loss_chunk: 0 });
        let (loss, all) = pass(Checkpointing::None);
        for checkpointing in [Checkpointing::Selective, Checkpointing::Full] {
            let (other_loss, other) = pass(checkpointing);
            assert_eq!(loss, other_loss);
            assert!(all.iter().zip(&other).all(|(left, right)| left == right), "{checkpointing:?} {compute:?}");
        }
    }
}

#[test]
fn micro_batches_add_up() {
    let model = mk_model(json!({"tie_word_embeddings": true}), Kind::Double);
    let batch = mk_batch();
    let rows: Vec<Batch> = (0..2)
        .map(|row| Batch {
            input_ids: batch.input_ids.i(row..row + 1),
            positions: batch.positions.i(row..row + 1),
            labels: batch.labels.i(row..row + 1),
            segments: vec![batch.segments[row as usize].clone()],
        })
        .collect();
    let (whole_loss, whole) = gradients(&model, &[&batch], &double());
    let (loss, parts) = gradients(&model, &[&rows[0], &rows[1]], &double());
    assert!((whole_loss.sum / loss.sum - 1.0).abs() < 1e-12 && whole_loss.targets == loss.targets);
    assert!(distance(&whole, &parts) < 1e-11);
}

/// The gradient along a random direction against the loss's difference along it.
#[test]
fn gradients_are_the_losss_slope() {
    for changes in [json!({}), json!({"tie_word_embeddings": true, "num_key_value_heads": 1})] {
        let model = mk_model(changes, Kind::Double);
        let batch = mk_batch();
        let (_, all) = gradients(&model, &[&batch], &double());
        for (parameter, gradient) in model.parameters().iter().zip(&all) {
            let direction = Tensor::randn(parameter.tensor.size(), (Kind::Double, Device::Cpu));
            let loss_at = |step: f64| {
                let mut tensor = parameter.tensor.detach();
                let _ = tensor.g_add_(&(&direction * step));
                let losses = model.token_losses(&batch, &double()).unwrap().sum(Kind::Double).double_value(&[]);
                let _ = tensor.g_add_(&(&direction * -step));
                0.5 * losses
            };
            let slope = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
            let ours = (gradient * &direction).sum(Kind::Double).double_value(&[]);
            let scale = gradient.norm().double_value(&[]) * direction.norm().double_value(&[]);
            assert!((slope - ours).abs() < 1e-6 * scale, "{}: {ours}, not {slope}", parameter.name);
        }
    }
}

#[test]
fn frozen_parameters_get_no_gradient_and_change_no_others() {
    let mut model = mk_model(json!({}), Kind::Double);
    let batch = mk_batch();
    let (_, all) = gradients(&model, &[&batch], &double());
    let names: Vec<String> = model.parameters().iter().map(|parameter| parameter.name.clone()).collect();
    type Choice = fn(&str) -> bool;
    let choices: [Choice; 5] = [
        |name| name.contains("embed_tokens") || name.contains("lm_head"),
        |name| name.contains("layers.1.self_attn.k_proj"),
        |name| name == "lm_head.weight",
        |name| name == "model.norm.weight" || name.contains("layers.2.mlp"),
        |name| name.contains("layernorm"),
    ];
    for choice in choices {
        model.set_trainable(choice).unwrap();
        let (_, some) = gradients(&model, &[&batch], &double());
        let expected: Vec<Tensor> =
            names.iter().zip(&all).filter(|(name, _)| choice(name)).map(|(_, gradient)| gradient.copy()).collect();
        assert!(distance(&some, &expected) < 1e-13);
        for parameter in model.parameters() {
            assert_eq!(parameter.tensor.grad().defined(), choice(&parameter.name), "{}", parameter.name);
        }
    }
}

#[test]
fn gradients_survive_being_cleared_or_replaced() {
    let model = mk_model(json!({}), Kind::Double);
    let batch = mk_batch();
    let (_, once) = gradients(&model, &[&batch], &double());
    let key = model.parameter("model.layers.0.self_attn.k_proj.weight").unwrap();
    let value = model.parameter("model.layers.0.self_attn.v_proj.weight").unwrap();
    palimpsest_torch::set_gradient(key, None).unwrap();
    palimpsest_torch::set_gradient(value, Some(&value.grad().copy())).unwrap();
    model.loss_and_backward(&batch, 0.5, &double()).unwrap();
    for ((name, twice), once) in model.gradients().unwrap().iter().zip(&once) {
        let expected = if name.contains("layers.0.self_attn.k_proj.weight") { once.copy() } else { once * 2.0 };
        assert!((twice - &expected).norm().double_value(&[]) <= 1e-12 * expected.norm().double_value(&[]), "{name}");
    }
}

#[test]
fn what_a_pass_cannot_do_is_refused() {
    let model = mk_model(json!({}), Kind::Float);
    let mut batch = mk_batch();
    let error = model.loss_and_backward(&batch, 1.0, &double()).unwrap_err().to_string();
    assert!(error.starts_with("a model with Float weights cannot be trained in Double"), "{error}");
    batch.input_ids = batch.input_ids.fill(61);
    let error = model.hidden_states(&batch, &ForwardOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "the batch has ids outside the model's vocabulary of 61");
    let mut batch = mk_batch();
    batch.labels = batch.labels.fill(61);
    let error = model.token_losses(&batch, &ForwardOptions::default()).unwrap_err().to_string();
    assert!(error.contains("label 61 is outside the vocabulary of 61"), "{error}");
}

#[test]
fn a_batch_without_labels_has_no_loss() {
    let model = mk_model(json!({}), Kind::Float);
    let mut batch = mk_batch();
    batch.labels = batch.labels.fill(-100);
    model.zero_gradients().unwrap();
    assert_eq!(model.loss_and_backward(&batch, 1.0, &ForwardOptions::default()).unwrap(), LossSum::default());
    assert!(model.gradients().unwrap().iter().all(|(_, gradient)| gradient.abs().max().double_value(&[]) == 0.0));
    let losses = model.token_losses(&batch, &ForwardOptions::default()).unwrap();
    assert_eq!((losses.size(), losses.abs().max().double_value(&[])), (vec![2, 16], 0.0));
}

#[test]
fn random_weights_are_a_function_of_seed_and_name() {
    let config = mk_model(json!({"hidden_size": 64, "vocab_size": 500}), Kind::Float).config;
    let model = |seed| Decoder::random(&config, seed, Device::Cpu, Kind::Float).unwrap();
    let (one, same, other) = (model(1), model(1), model(2));
    for (parameter, (same, other)) in one.parameters().iter().zip(same.parameters().iter().zip(other.parameters())) {
        assert_eq!(parameter.tensor, same.tensor);
        let deviation =
            |tensor: &Tensor| (tensor - tensor.mean(Kind::Float)).square().mean(Kind::Double).sqrt().double_value(&[]);
        if parameter.name.ends_with("proj.weight") || parameter.name.ends_with("embed_tokens.weight") {
            assert_ne!(parameter.tensor, other.tensor);
            assert!((deviation(&parameter.tensor) / 0.3 - 1.0).abs() < 0.05, "{}", parameter.name);
        } else if parameter.name.ends_with("norm.weight") {
            assert_eq!(parameter.tensor, parameter.tensor.ones_like());
        } else if parameter.name.ends_with("bias") {
            assert_eq!(parameter.tensor, parameter.tensor.zeros_like());
        }
    }
}
