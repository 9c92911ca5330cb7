//! Writes a bucket's sequences as an Arrow file.
//!
//! | column | type | what |
//! |---|---|---|
//! | `input_ids` | `list<uint32>` | the filled input positions; padding to the sequence length is not stored |
//! | `labels` | `list<int32>` | the id that follows each position, -100 where the loss is not taken |
//! | `segments` | `list<uint32>` | how many positions each piece takes |
//! | `documents` | `list<struct<dataset, document, offset>>` | which dataset of the plan, which document of its tokenised file, and where in the document's ids each piece begins |

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, Int32Array, ListArray, RecordBatch, StructArray, UInt32Array, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Fields, Schema, SchemaRef};

use crate::arrow_file::{field, item_field, list_type};
use crate::certificate::fill;
use crate::compile::MixedDataset;
use crate::error::{Error, Result};
use crate::pack::{Packed, Piece};
use crate::plan::{BinPlan, BucketPlan};
use crate::tokenized::write_error;

/// The label of a position that the loss is not taken over.
pub const IGNORED: i32 = -100;

/// A record batch is closed when it holds as many positions.
const BATCH_POSITIONS: usize = 1 << 19;

/// The schema of a bucket's file.
pub(crate) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        field("input_ids", list_type(DataType::UInt32)),
        field("labels", list_type(DataType::Int32)),
        field("segments", list_type(DataType::UInt32)),
        field("documents", list_type(DataType::Struct(document_fields()))),
    ]))
});

fn document_fields() -> Fields {
    vec![field("dataset", DataType::UInt32), field("document", DataType::UInt64), field("offset", DataType::UInt32)]
        .into()
}

/// Where a bucket goes and what it is made of.
pub(crate) struct BucketWriter<'a> {
    pub(crate) datasets: &'a [MixedDataset],
    /// For each of `datasets`, its index in the plan.
    pub(crate) plan_index: &'a [u32],
    /// The names of the stage's mixture.
    pub(crate) mixture: &'a [&'a str],
    pub(crate) sequence_length: u32,
}

impl BucketWriter<'_> {
    /// Writes the sequences of a bucket in an order. `report` hears of the positions written.
    pub(crate) fn write(
        &self,
        path: &Path,
        file: String,
        packed: &Packed,
        order: &[u32],
        report: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<BucketPlan> {
        let mut sink = Sink::create(path)?;
        let mut bins: Vec<BinPlan> = self.datasets.iter().map(|_| BinPlan::default()).collect();
        for sequence in order {
            for piece in packed.sequence(*sequence as usize) {
                let dataset = &self.datasets[piece.dataset as usize].documents;
                let prompt_ids = dataset.prompt_ids(piece.document);
                let length = dataset.length(piece.document);
                let masked = prompt_ids.saturating_sub(piece.offset + 1).min(piece.positions);
                count(&mut bins[piece.dataset as usize], piece, length, masked);
                let start = sink.columns.input_ids.len();
                dataset.read(piece.document, piece.offset, piece.positions + 1, &mut sink.columns.input_ids)?;
                sink.columns.push_piece(piece, self.plan_index[piece.dataset as usize], start, masked);
            }
            sink.columns.end_sequence();
            if sink.columns.input_ids.len() >= BATCH_POSITIONS {
                report(sink.columns.input_ids.len() as u64)?;
                sink.write_batch()?;
            }
        }
        report(sink.columns.input_ids.len() as u64)?;
        sink.finish()?;
        for (bin, dataset) in bins.iter_mut().zip(self.datasets) {
            bin.dataset = dataset.name.clone();
        }
        let bin_of = |name: &&str| bins.iter().find(|bin| bin.dataset == *name).cloned();
        let datasets: Vec<BinPlan> = self.mixture.iter().filter_map(bin_of).collect();
        let sequences = packed.sequences() as u64;
        let slots = sequences * u64::from(self.sequence_length);
        let padding = slots - datasets.iter().map(|bin| bin.positions).sum::<u64>();
        Ok(BucketPlan {
            file,
            sequences,
            slots,
            padding,
            fill: fill(slots, padding),
            document_tokens: datasets.iter().map(|bin| bin.document_tokens).sum(),
            target_tokens: datasets.iter().map(|bin| bin.target_tokens).sum(),
            datasets,
        })
    }
}

/// Counts a piece; `masked` of its labels lie wholly inside the prompt.
fn count(bin: &mut BinPlan, piece: &Piece, length: u32, masked: u32) {
    let is_first = piece.offset == 0;
    bin.documents += u64::from(is_first);
    bin.split += u64::from(is_first && piece.positions < length - 1);
    bin.pieces += 1;
    bin.positions += u64::from(piece.positions);
    bin.document_tokens += u64::from(piece.positions) + u64::from(is_first);
    bin.prompt_tokens += u64::from(masked);
    bin.target_tokens += u64::from(piece.positions - masked);
}

#[derive(Default)]
struct Columns {
    input_ids: Vec<u32>,
    labels: Vec<i32>,
    /// Positions of each sequence.
    lengths: Vec<usize>,
    segments: Vec<u32>,
    datasets: Vec<u32>,
    documents: Vec<u64>,
    offsets: Vec<u32>,
    /// Pieces of each sequence.
    pieces: Vec<usize>,
    sequence_start: usize,
    piece_start: usize,
}

impl Columns {
    /// Adds a piece whose ids, one more than its positions, were appended to `input_ids` at `start`.
    fn push_piece(&mut self, piece: &Piece, dataset: u32, start: usize, masked: u32) {
        let masked_end = start + 1 + masked as usize;
        self.labels.extend(std::iter::repeat_n(IGNORED, masked as usize));
        self.labels.extend(self.input_ids[masked_end..].iter().map(|id| *id as i32));
        self.input_ids.pop();
        self.segments.push(piece.positions);
        self.datasets.push(dataset);
        self.documents.push(u64::from(piece.document));
        self.offsets.push(piece.offset);
    }

    fn end_sequence(&mut self) {
        self.lengths.push(self.input_ids.len() - self.sequence_start);
        self.pieces.push(self.segments.len() - self.piece_start);
        (self.sequence_start, self.piece_start) = (self.input_ids.len(), self.segments.len());
    }
}

struct Sink {
    path: PathBuf,
    writer: FileWriter<BufWriter<File>>,
    columns: Columns,
}

impl Sink {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let writer = FileWriter::try_new_buffered(file, &SCHEMA).map_err(|error| write_error(path, error))?;
        Ok(Self { path: path.to_owned(), writer, columns: Columns::default() })
    }

    fn write_batch(&mut self) -> Result<()> {
        let columns = std::mem::take(&mut self.columns);
        if columns.lengths.is_empty() {
            return Ok(());
        }
        let positions = OffsetBuffer::from_lengths(columns.lengths);
        let pieces = OffsetBuffer::from_lengths(columns.pieces);
        let list = |item: DataType, offsets: &OffsetBuffer<i32>, values: ArrayRef| -> ArrayRef {
            Arc::new(ListArray::new(item_field(item), offsets.clone(), values, None))
        };
        let documents = StructArray::new(
            document_fields(),
            vec![
                Arc::new(UInt32Array::from(columns.datasets)),
                Arc::new(UInt64Array::from(columns.documents)),
                Arc::new(UInt32Array::from(columns.offsets)),
            ],
            None,
        );
        let arrays = vec![
            list(DataType::UInt32, &positions, Arc::new(UInt32Array::from(columns.input_ids))),
            list(DataType::Int32, &positions, Arc::new(Int32Array::from(columns.labels))),
            list(DataType::UInt32, &pieces, Arc::new(UInt32Array::from(columns.segments))),
            list(DataType::Struct(document_fields()), &pieces, Arc::new(documents)),
        ];
        let batch = RecordBatch::try_new(SCHEMA.clone(), arrays);
        let written = batch.and_then(|batch| self.writer.write(&batch));
        written.map_err(|error| write_error(&self.path, error))
    }

    fn finish(mut self) -> Result<()> {
        self.write_batch()?;
        self.writer.finish().map_err(|error| write_error(&self.path, error))
    }
}
