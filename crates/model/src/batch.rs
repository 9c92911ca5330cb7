//! What a pass works on: rows of ids, their positions, labels and attention segments.

use tch::{Device, Kind, Tensor};

/// The label of a position without loss.
pub const IGNORED: i64 = -100;

/// One packed sequence, before it becomes a row of a [`Batch`].
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Ids.
    pub input_ids: &'a [u32],
    /// The id to predict at each position, or -100.
    pub labels: &'a [i32],
    /// Lengths of the document pieces in order; together as long as `input_ids`.
    pub segments: &'a [u32],
}

/// Rows of one width.
#[derive(Debug)]
pub struct Batch {
    /// [rows, positions], int64.
    pub input_ids: Tensor,
    /// [rows, positions], int64: what rotary embedding turns by; below the number of positions.
    pub positions: Tensor,
    /// [rows, positions], int64: the id to predict, or [`IGNORED`].
    pub labels: Tensor,
    /// For each row the lengths of the stretches that attend to themselves alone, causally. They sum to the number of
    /// positions; padding is a stretch of its own.
    pub segments: Vec<Vec<i64>>,
}

impl Batch {
    /// Rows padded to `width` positions (longer ones are cut): each document piece attends to itself alone and its positions
    /// begin at 0.
    pub fn from_rows(rows: &[Row<'_>], width: usize, device: Device) -> Self {
        let slots = rows.len() * width;
        let (mut ids, mut positions, mut labels) =
            (Vec::with_capacity(slots), Vec::with_capacity(slots), Vec::with_capacity(slots));
        let mut segments = Vec::with_capacity(rows.len());
        for row in rows {
            let filled = row.input_ids.len().min(width);
            let padding = width - filled;
            ids.extend(row.input_ids.iter().take(filled).map(|id| i64::from(*id)));
            labels.extend(row.labels.iter().take(filled).map(|label| i64::from(*label)));
            ids.extend(std::iter::repeat_n(0, padding));
            labels.extend(std::iter::repeat_n(IGNORED, padding));
            let lengths = segment_lengths(row, filled, padding);
            positions.extend(lengths.iter().flat_map(|length| 0..*length));
            segments.push(lengths);
        }
        let tensor =
            |values: &[i64]| Tensor::from_slice(values).view([rows.len() as i64, width as i64]).to_device(device);
        Self { input_ids: tensor(&ids), positions: tensor(&positions), labels: tensor(&labels), segments }
    }

    /// Positions of a row.
    pub fn width(&self) -> usize {
        self.input_ids.size().get(1).map_or(0, |width| *width as usize)
    }

    /// The same batch with each row attending to itself as a whole, and positions that run through it: what attends to
    /// each other must lie as far apart as its positions say.
    #[must_use]
    pub fn attending_to_whole_rows(mut self) -> Self {
        for lengths in &mut self.segments {
            *lengths = vec![lengths.iter().sum()];
        }
        let size = self.positions.size();
        let running = Tensor::arange(size[1], (Kind::Int64, self.positions.device()));
        self.positions = running.expand(&size, false).contiguous();
        self
    }

    /// A batch of rows [rows, positions] that are one document each, without labels.
    pub fn of_documents(input_ids: &Tensor) -> Self {
        let size = input_ids.size();
        let (rows, width) = (size[0], size[1]);
        let positions = Tensor::arange(width, (Kind::Int64, input_ids.device())).expand([rows, width], false);
        Self {
            input_ids: input_ids.to_kind(Kind::Int64),
            positions: positions.contiguous(),
            labels: Tensor::full([rows, width], IGNORED, (Kind::Int64, input_ids.device())),
            segments: vec![vec![width]; rows as usize],
        }
    }
}

/// The lengths of the first `filled` positions' pieces, then that of the padding.
fn segment_lengths(row: &Row<'_>, filled: usize, padding: usize) -> Vec<i64> {
    let mut left = filled as i64;
    let mut lengths = Vec::with_capacity(row.segments.len() + 1);
    for length in row.segments {
        let length = i64::from(*length).min(left);
        if length > 0 {
            lengths.push(length);
        }
        left -= length;
    }
    // Positions that no piece names attend to themselves, as padding does.
    lengths.extend([left, padding as i64].into_iter().filter(|length| *length > 0));
    lengths
}

#[cfg(test)]
mod tests {
    use tch::{Device, Tensor};

    use super::{Batch, Row};

    fn values(tensor: &Tensor) -> Vec<i64> {
        Vec::try_from(tensor.view([-1])).unwrap()
    }

    #[test]
    fn rows_are_padded_and_positions_restart() {
        let rows = [
            Row { input_ids: &[5, 6, 7], labels: &[6, -100, 8], segments: &[2, 1] },
            Row { input_ids: &[9], labels: &[1], segments: &[1] },
        ];
        let batch = Batch::from_rows(&rows, 4, Device::Cpu);
        assert_eq!(values(&batch.input_ids), [5, 6, 7, 0, 9, 0, 0, 0]);
        assert_eq!(values(&batch.positions), [0, 1, 0, 0, 0, 0, 1, 2]);
        assert_eq!(values(&batch.labels), [6, -100, 8, -100, 1, -100, -100, -100]);
        assert_eq!(batch.segments, [vec![2, 1, 1], vec![1, 3]]);
        let whole = batch.attending_to_whole_rows();
        assert_eq!(whole.segments, [vec![4], vec![4]]);
        assert_eq!(values(&whole.positions), [0, 1, 2, 3, 0, 1, 2, 3]);
    }
}
