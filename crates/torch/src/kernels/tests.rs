//! Each CPU kernel against the same mathematics in ATen operations, and against autograd.

use tch::{Device, IndexOp, Kind, Tensor};

use super::{Rotation, cross_entropy, embedding_backward, fallback, rms_norm, rms_norm_backward, rotate, swiglu};
use super::{accumulation_kind, swiglu_backward};

const KINDS: [(Kind, f64); 3] = [(Kind::Float, 2e-6), (Kind::Double, 1e-13), (Kind::BFloat16, 1e-2)];

fn normal(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Double, Device::Cpu)).to_kind(kind)
}

/// Largest difference relative to the largest value.
fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!((ours.size(), ours.kind()), (theirs.size(), theirs.kind()));
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    f64::try_from((ours - &theirs).abs().max() / (theirs.abs().max() + 1e-30)).unwrap()
}

#[track_caller]
fn assert_close(ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    let difference = difference(ours, theirs);
    assert!(difference <= tolerance, "{:?} differs by {difference:e}", ours.kind());
}

#[test]
fn rms_norm_and_its_gradient() {
    for (kind, tolerance) in KINDS {
        for (rows, width) in [(1, 7), (64, 256), (300, 129)] {
            let (x, weight, dy) = (normal(&[rows, width], kind), normal(&[width], kind), normal(&[rows, width], kind));
            let (y, rstd) = rms_norm(&x, &weight, 1e-5).unwrap();
            let (expected, expected_rstd) = fallback::rms_norm(&x, &weight, 1e-5).unwrap();
            assert_close(&y, &expected, tolerance);
            assert_close(&rstd, &expected_rstd, 1e-6);
            let sums = (accumulation_kind(kind), Device::Cpu);
            let (ours, theirs) = (normal(&[rows, width], kind), Tensor::ones([width], sums));
            let (expected, expected_weight) = (ours.copy(), theirs.copy());
            rms_norm_backward(&dy, &x, &weight, &rstd, &ours, Some(&theirs)).unwrap();
            fallback::rms_norm_backward(&dy, &x, &weight, &rstd, &expected, Some(&expected_weight)).unwrap();
            assert_close(&ours, &expected, tolerance);
            assert_close(&theirs, &expected_weight, 2e-6);
        }
    }
}

#[test]
fn rms_norm_gradient_is_autograds() {
    let x = normal(&[33, 64], Kind::Double).set_requires_grad(true);
    let weight = normal(&[64], Kind::Double).set_requires_grad(true);
    let dy = normal(&[33, 64], Kind::Double);
    let y = &x * (x.square().mean_dim([-1i64].as_slice(), true, None) + 1e-5).rsqrt() * &weight;
    crate::backward(&[y], &[&dy]).unwrap();
    let (x_value, weight_value) = (x.detach(), weight.detach());
    let (_, rstd) = rms_norm(&x_value, &weight_value, 1e-5).unwrap();
    let (residual, weight_gradient) = (x_value.zeros_like(), weight_value.zeros_like());
    rms_norm_backward(&dy, &x_value, &weight_value, &rstd, &residual, Some(&weight_gradient)).unwrap();
    assert_close(&residual, &x.grad(), 1e-12);
    assert_close(&weight_gradient, &weight.grad(), 1e-12);
}

#[test]
fn rotation_in_place_from_strides_and_back() {
    for (kind, tolerance) in KINDS {
        let (batch, positions, heads, width) = (3, 5, 4, 6);
        let angles = normal(&[11, width / 2], accumulation_kind(kind));
        let ids = Tensor::randint(11, [batch * positions], (Kind::Int64, Device::Cpu));
        let (cosine, sine) = (angles.cos(), angles.sin());
        let turn = |inverse| Rotation { cosine: &cosine, sine: &sine, positions: &ids, inverse };
        let target = normal(&[batch * positions, 40], kind);
        let (expected, original) = (target.copy(), target.copy());
        let view = |t: &Tensor| t.view([batch, positions, 40]).narrow(2, 10, 24).view([batch, positions, heads, width]);
        rotate(&view(&target), &target, 10, &turn(false)).unwrap();
        fallback::rotate(&view(&expected), &expected, 10, &turn(false)).unwrap();
        assert_close(&target, &expected, tolerance);
        assert!(difference(&target, &original) > 0.1);
        rotate(&view(&target), &target, 10, &turn(true)).unwrap();
        assert_close(&target, &original, 2.0 * tolerance);

        let source = normal(&[batch, heads, positions, width], kind).transpose(1, 2);
        rotate(&source, &target, 4, &turn(true)).unwrap();
        fallback::rotate(&source, &expected, 4, &turn(true)).unwrap();
        assert_close(&target.i((.., 4..28)), &expected.i((.., 4..28)), tolerance);
    }
}

#[test]
fn swiglu_and_its_gradient() {
    for (kind, tolerance) in KINDS {
        let gate_up = normal(&[65, 2 * 171], kind) * 5.0;
        assert_close(&swiglu(&gate_up).unwrap(), &fallback::swiglu(&gate_up).unwrap(), tolerance);
        let d = normal(&[65, 171], kind);
        let (ours, theirs) = (gate_up.copy(), gate_up.copy());
        swiglu_backward(&d, &ours).unwrap();
        fallback::swiglu_backward(&d, &theirs).unwrap();
        assert_close(&ours, &theirs, tolerance);

        let leaf = gate_up.to_kind(Kind::Double).set_requires_grad(true);
        let halves = leaf.chunk(2, -1);
        crate::backward(&[halves[0].silu() * &halves[1]], &[d.to_kind(Kind::Double)]).unwrap();
        assert_close(&ours.to_kind(Kind::Double), &leaf.grad(), tolerance);
    }
}

#[test]
fn swiglu_of_extreme_gates_is_finite() {
    let gate_up = Tensor::from_slice(&[-1e4f32, 1e4, -89.0, 0.0, 1.0, 1.0, 1.0, 1.0]).view([1, 8]);
    let out = Vec::<f32>::try_from(swiglu(&gate_up).unwrap().view([-1])).unwrap();
    assert!(out[0].abs() < 1e-30 && out[1] == 1e4 && out[2].abs() < 1e-30 && out[3] == 0.0, "{out:?}");
}

#[test]
fn cross_entropy_and_its_gradient() {
    for (kind, tolerance) in KINDS {
        for (rows, width) in [(1, 3), (40, 1025), (9, 5000)] {
            let logits = normal(&[rows, width], kind) * 4.0;
            let labels = Tensor::randint(width, [rows], (Kind::Int64, Device::Cpu));
            let before = logits.copy();
            let losses = cross_entropy(&logits, &labels, None).unwrap();
            assert_eq!(logits, before);
            let expected = before.copy();
            let expected_losses = fallback::cross_entropy(&expected, &labels, Some(0.25)).unwrap();
            // A loss is the difference of two numbers as large as logits, a gradient that of two as large as 1: where the label is all but
            // certain they are close to 0, and no more exact than what they are the difference of.
            let largest = before.to_kind(Kind::Double).abs().max();
            let lifted = |losses: &Tensor| losses.to_kind(Kind::Double) + &largest;
            let chosen = labels.one_hot(width).to_kind(Kind::Double) * 0.25;
            let shares = |gradient: &Tensor| gradient.to_kind(Kind::Double) + &chosen;
            assert_close(&lifted(&losses), &lifted(&expected_losses), 2e-6);
            assert_close(&cross_entropy(&logits, &labels, Some(0.25)).unwrap(), &losses, 0.0);
            assert_close(&shares(&logits), &shares(&expected), tolerance);

            let leaf = before.to_kind(Kind::Double).set_requires_grad(true);
            let sum = leaf.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Sum, -100, 0.0) * 0.25;
            sum.backward();
            assert_close(&shares(&logits), &shares(&leaf.grad()), tolerance);
        }
    }
}

#[test]
fn cross_entropy_of_a_nan_is_a_nan_and_of_huge_logits_is_finite() {
    let labels = Tensor::from_slice(&[0i64]);
    let loss = |values: &[f32]| {
        let logits = Tensor::from_slice(values).view([1, -1]);
        f64::try_from(cross_entropy(&logits, &labels, Some(1.0)).unwrap().sum(Kind::Double)).unwrap()
    };
    assert!(loss(&[0.0, f32::NAN, 1.0]).is_nan());
    assert!(loss(&[f32::NAN, 0.0, 1.0]).is_nan());
    assert!((loss(&[3e4, -3e4, 3e4]) - std::f64::consts::LN_2).abs() < 1e-6);
    assert!((loss(&[-3e4, 3e4]) - 6e4).abs() < 1e-2);
}

#[test]
fn labels_and_ids_outside_the_vocabulary_are_refused() {
    let logits = normal(&[2, 5], Kind::Float);
    let error = cross_entropy(&logits, &Tensor::from_slice(&[0i64, 5]), None).unwrap_err().to_string();
    assert!(error.contains("label 5 is outside the vocabulary of 5"), "{error}");
    let error =
        embedding_backward(&logits, &Tensor::from_slice(&[-1i64]), &logits.i(0..1), None).unwrap_err().to_string();
    assert!(error.contains("id -1 is outside the vocabulary of 2"), "{error}");
}

#[test]
fn embedding_gradient() {
    for (kind, _) in KINDS {
        let gradient = normal(&[13, 50], accumulation_kind(kind));
        let (expected, before) = (gradient.copy(), gradient.copy());
        let ids = Tensor::randint(13, [200], (Kind::Int64, Device::Cpu));
        let d = normal(&[200, 50], kind);
        embedding_backward(&gradient, &ids, &d, None).unwrap();
        fallback::embedding_backward(&expected, &ids, &d, -1).unwrap();
        assert_close(&gradient, &expected, 2e-6);
        assert!(difference(&gradient.i(5), &before.i(5)) > 0.1);

        let (gradient, expected) = (before.copy(), before.copy());
        embedding_backward(&gradient, &ids, &d, Some(5)).unwrap();
        fallback::embedding_backward(&expected, &ids, &d, 5).unwrap();
        assert_close(&gradient, &expected, 2e-6);
        assert_eq!(gradient.i(5), before.i(5));
    }
}
