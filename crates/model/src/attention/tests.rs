//! How segments become runs.

use tch::{Device, Kind, Tensor};

use super::{Pattern, Run};
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
