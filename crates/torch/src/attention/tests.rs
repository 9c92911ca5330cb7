//! Attention against PyTorch's in float64, and its gradient against autograd's.

use tch::{Device, Kind, Tensor};

use super::{AttentionHeads, attention, attention_backward};

/// The same by PyTorch, segment by segment.
fn expected(query_key_value: &Tensor, bounds: &[i64], heads: AttentionHeads) -> Tensor {
    let AttentionHeads { queries, keys, width } = heads;
    let outputs: Vec<Tensor> = bounds
        .windows(2)
        .map(|ends| {
            let length = ends[1] - ends[0];
            let rows = query_key_value.narrow(0, ends[0], length);
            let all = rows.view([1, length, queries + 2 * keys, width]).transpose(1, 2);
            let (query, key) = (all.narrow(1, 0, queries), all.narrow(1, queries, keys));
            let value = all.narrow(1, queries + keys, keys);
            let output =
                Tensor::scaled_dot_product_attention(&query, &key, &value, None::<&Tensor>, 0.0, true, None, true);
            output.transpose(1, 2).reshape([length, queries * width])
        })
        .collect();
    Tensor::cat(&outputs, 0)
}

#[track_caller]
fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size());
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    let difference = f64::try_from((ours - &theirs).abs().max() / theirs.abs().max()).unwrap();
    assert!(difference <= tolerance, "{what} differs by {difference:e}");
}

#[test]
fn output_and_gradient_are_pytorchs() {
    let cases: [(&[i64], [i64; 3]); 6] = [
        (&[1], [1, 1, 1]),
        (&[3, 1, 40], [2, 2, 8]),
        (&[256, 7, 33], [4, 2, 32]),
        (&[300, 513], [2, 1, 64]),
        (&[65], [6, 2, 80]),
        (&[130, 31], [3, 3, 20]),
    ];
    for (lengths, [queries, keys, width]) in cases {
        let mut bounds = vec![0];
        bounds.extend(lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        let heads = AttentionHeads { queries, keys, width };
        let shape = [*bounds.last().unwrap(), (queries + 2 * keys) * width];
        for (kind, tolerance) in [(Kind::Float, 5e-6), (Kind::Double, 1e-12), (Kind::BFloat16, 2e-2)] {
            let columns = (Tensor::randn(shape, (Kind::Double, Device::Cpu)) * 2.0).to_kind(kind);
            let attended = attention(&columns, &bounds, heads).unwrap();
            let d = Tensor::randn_like(&attended.output);
            let gradient = attention_backward(&d, &columns, &attended, &bounds, heads).unwrap();

            let leaf = columns.to_kind(Kind::Double).set_requires_grad(true);
            let theirs = expected(&leaf, &bounds, heads);
            let case = format!("{kind:?} {lengths:?} {heads:?}");
            assert_close(&case, &attended.output, &theirs, tolerance);
            crate::backward(&[theirs], &[&d.to_kind(Kind::Double)]).unwrap();
            assert_close(&case, &gradient, &leaf.grad(), tolerance);
        }
    }
}

#[test]
fn scores_that_would_overflow_do_not() {
    let heads = AttentionHeads { queries: 1, keys: 1, width: 4 };
    // Scores of millions that float32 holds exactly: of two that are almost alike either could be the larger otherwise.
    let columns = (Tensor::randn([300, 12], (Kind::Float, Device::Cpu)) * 20.0).round() * 32.0;
    let output = attention(&columns, &[0, 300], heads).unwrap().output;
    assert!(bool::try_from(output.isfinite().all()).unwrap());
    assert_close("huge scores", &output, &expected(&columns.to_kind(Kind::Double), &[0, 300], heads), 1e-6);
}

#[test]
fn a_nan_reaches_what_sees_it() {
    let heads = AttentionHeads { queries: 1, keys: 1, width: 4 };
    let columns = Tensor::randn([40, 12], (Kind::Float, Device::Cpu));
    let _ = columns.narrow(0, 20, 1).fill_(f64::NAN);
    let output = attention(&columns, &[0, 40], heads).unwrap().output;
    assert!(bool::try_from(output.narrow(0, 20, 20).isnan().all()).unwrap());
    assert!(!bool::try_from(output.narrow(0, 0, 16).isnan().any()).unwrap());
}

#[test]
fn segments_that_do_not_hold_all_tokens_are_refused() {
    let heads = AttentionHeads { queries: 1, keys: 1, width: 4 };
    let columns = Tensor::randn([9, 12], (Kind::Float, Device::Cpu));
    for bounds in [vec![], vec![0], vec![0, 8], vec![0, 5, 5, 9], vec![1, 9]] {
        let error = attention(&columns, &bounds, heads).unwrap_err().to_string();
        assert!(error.contains("segments must follow one another and hold all tokens"), "{error}");
    }
}
