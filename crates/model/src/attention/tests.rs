//! How segments become runs, and that run by run comes to the same as the kernel.

use palimpsest_torch::{AttentionHeads, Rotation};
use tch::{Device, Kind, Tensor};

use super::runs::{self, Run};
use super::{Pattern, backward, forward, forward_saving};
use crate::batch::Batch;

fn batch(width: i64, segments: &[&[i64]]) -> Batch {
    let ids = Tensor::zeros([segments.len() as i64, width], (Kind::Int64, Device::Cpu));
    let mut batch = Batch::of_documents(&ids);
    batch.segments = segments.iter().map(|lengths| lengths.to_vec()).collect();
    batch
}

#[test]
fn equal_neighbours_form_a_run_across_rows() {
    let run = |start, count, length| Run { start, count, length };
    let whole = Pattern::of(&batch(7, &[&[7], &[7]])).unwrap();
    assert_eq!(whole.runs, [run(0, 2, 7)]);
    let packed = Pattern::of(&batch(13, &[&[5, 5, 3], &[3, 3, 7]])).unwrap();
    assert_eq!(packed.runs, [run(0, 2, 5), run(10, 3, 3), run(19, 1, 7)]);
}

#[test]
fn segments_that_do_not_fill_the_rows_are_refused() {
    for segments in [vec![[4i64, 2].as_slice()], vec![&[7], &[7], &[7]], vec![&[7], &[7, 0]], vec![&[7], &[8, -1]]] {
        let mut wrong = batch(7, &[&[7], &[7]]);
        wrong.segments = segments.iter().map(|lengths| lengths.to_vec()).collect();
        let error = Pattern::of(&wrong).unwrap_err().to_string();
        assert_eq!(error, "the batch has 2 rows of 7 positions, which its segments do not fill");
    }
}

#[test]
fn run_by_run_comes_to_the_same_as_the_kernel() {
    let pattern = Pattern::of(&batch(40, &[&[20, 20], &[33, 7]])).unwrap();
    let heads = AttentionHeads { queries: 4, keys: 2, width: 6 };
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Double, Device::Cpu));
    let (columns, d_output, angles) = (random(&[80, 48]), random(&[80, 24]), random(&[9, 3]));
    let positions = Tensor::randint(9, [80], (Kind::Int64, Device::Cpu));
    let (cosine, sine) = (angles.cos(), angles.sin());
    let rotation = Rotation { cosine: &cosine, sine: &sine, positions: &positions, inverse: false };
    let is_same = |ours: &Tensor, theirs: &Tensor| assert!(ours.allclose(theirs, 1e-10, 1e-10, false));

    let (output, recorded) = runs::forward_saving(&columns, heads, &pattern.runs).unwrap();
    is_same(&output, &forward(&columns, heads, &pattern).unwrap());
    is_same(&output, &runs::forward(&columns, heads, &pattern.runs).unwrap());

    let saved = forward_saving(&columns, heads, &pattern).unwrap();
    is_same(&output, saved.output());
    let by_kernel = backward(&d_output, &columns, heads, &pattern, &saved, &rotation).unwrap();
    let by_run = runs::backward(&d_output, &columns, heads, (&pattern.runs, &recorded), &rotation).unwrap();
    is_same(&by_run, &by_kernel);
}
