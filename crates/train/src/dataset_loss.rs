//! The training loss of each dataset in each stage.

use palimpsest_corpus::{IGNORED, Sequence};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Sums over the target tokens of one dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossOfDataset {
    pub(crate) sum: f64,
    pub(crate) targets: u64,
}

/// The loss of each of the plan's datasets, by its index, over some steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DatasetLosses(pub(crate) Vec<LossOfDataset>);

impl DatasetLosses {
    /// Counts a batch whose rows are `sequences`, `width` positions wide. `losses`: [rows * width], 0 without a target.
    pub(crate) fn count(&mut self, sequences: &[Sequence<'_>], width: usize, losses: &Tensor) -> Result<()> {
        let losses = Vec::<f64>::try_from(losses.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?)?;
        for (sequence, row) in sequences.iter().zip(losses.chunks(width.max(1))) {
            let mut start = 0;
            for (origin, length) in sequence.origins().zip(sequence.segments) {
                let piece = start..start + *length as usize;
                let labels = &sequence.labels[piece.clone()];
                let part = LossOfDataset {
                    sum: row[piece.clone()].iter().sum(),
                    targets: labels.iter().filter(|label| **label != IGNORED).count() as u64,
                };
                self.add_to(origin.dataset as usize, part);
                start = piece.end;
            }
        }
        Ok(())
    }

    /// Adds the sums of other steps.
    pub(crate) fn add(&mut self, other: &Self) {
        for (dataset, part) in other.0.iter().enumerate() {
            // One step's NaN would stay for ever, and JSON has none: the checkpoint's state could not be read back.
            if part.sum.is_finite() {
                self.add_to(dataset, *part);
            }
        }
    }

    fn add_to(&mut self, dataset: usize, part: LossOfDataset) {
        if self.0.len() <= dataset {
            self.0.resize(dataset + 1, LossOfDataset::default());
        }
        let LossOfDataset { sum, targets } = &mut self.0[dataset];
        *sum += part.sum;
        *targets += part.targets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_not_a_number_is_left_out_so_that_the_state_reads_back() {
        let losses = |sum| DatasetLosses(vec![LossOfDataset { sum, targets: 4 }]);
        let mut total = losses(2.0);
        for sum in [f64::NAN, f64::INFINITY, 3.0] {
            total.add(&losses(sum));
        }
        assert_eq!(total, DatasetLosses(vec![LossOfDataset { sum: 5.0, targets: 8 }]));
        let written = serde_json::to_string(&total).unwrap();
        assert_eq!(serde_json::from_str::<DatasetLosses>(&written).unwrap(), total);
    }
}
