//! Reads a stage's sequences in the order in which they are trained on.

use std::path::PathBuf;

use arrow_array::types::{ArrowPrimitiveType, Int32Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ListArray, StructArray};
use arrow_buffer::ScalarBuffer;

use crate::arrow_file::{ArrowFile, Lists, column};
use crate::error::{Error, Result};
use crate::packed::SCHEMA;
use crate::plan::{Plan, StagePlan};

/// The sequences of a stage, memory-mapped: buckets in order, shuffled within. Step s of a stage takes sequences
/// s x batch to (s + 1) x batch; it may span two buckets, and the last one may have fewer.
#[derive(Debug)]
pub struct StageReader {
    batches: Vec<Batch>,
    sequences: usize,
}

#[derive(Debug)]
struct Batch {
    path: PathBuf,
    bucket: u32,
    first_sequence: usize,
    input_ids: Lists<UInt32Type>,
    labels: Lists<Int32Type>,
    segments: Lists<UInt32Type>,
    datasets: ScalarBuffer<u32>,
    documents: ScalarBuffer<u64>,
    offsets: ScalarBuffer<u32>,
}

/// A packed sequence. Its columns are as long as its filled positions: what is missing to the sequence length is padding.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// The input ids.
    pub input_ids: &'a [u32],
    /// The id that follows each input, -100 where the loss is not taken.
    pub labels: &'a [i32],
    /// How many positions each piece of a document takes, in order; they add up to the filled positions.
    pub segments: &'a [u32],
    /// Which bucket it is of, from 0.
    pub bucket: u32,
    /// Document tokens: the ids of each piece but the one that it shares with the piece before.
    pub document_tokens: u32,
    datasets: &'a [u32],
    documents: &'a [u64],
    offsets: &'a [u32],
}

/// Where a piece of a sequence came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceOrigin {
    /// Which of the plan's datasets.
    pub dataset: u32,
    /// Which document of the dataset, held-out ones not counted.
    pub document: u64,
    /// Where in the document's ids the piece begins.
    pub offset: u32,
}

impl Sequence<'_> {
    /// Where each piece came from, in the order of the segments.
    pub fn origins(&self) -> impl Iterator<Item = PieceOrigin> {
        let rest = self.documents.iter().zip(self.offsets);
        self.datasets.iter().zip(rest).map(|(dataset, (document, offset))| PieceOrigin {
            dataset: *dataset,
            document: *document,
            offset: *offset,
        })
    }
}

impl StageReader {
    /// Maps the files of a stage.
    pub(crate) fn open(plan: &Plan, stage: &StagePlan) -> Result<Self> {
        let mut reader = Self { batches: Vec::new(), sequences: 0 };
        for (bucket, bucket_plan) in (0..).zip(&stage.buckets) {
            let before = reader.sequences;
            let file = ArrowFile::open(&plan.prepared.join(&bucket_plan.file), &SCHEMA)?;
            for batch in &file.batches {
                let pieces: &ListArray = column(&file, batch, 3)?;
                let pieces = pieces.values().as_any().downcast_ref::<StructArray>();
                let pieces = pieces.ok_or_else(|| Error::damaged(&file.path, "documents are no structs"))?;
                reader.batches.push(Batch {
                    path: file.path.clone(),
                    bucket,
                    first_sequence: reader.sequences,
                    input_ids: Lists::of(&file, batch, 0)?,
                    labels: Lists::of(&file, batch, 1)?,
                    segments: Lists::of(&file, batch, 2)?,
                    datasets: numbers::<UInt32Type>(pieces, 0, &file)?,
                    documents: numbers::<UInt64Type>(pieces, 1, &file)?,
                    offsets: numbers::<UInt32Type>(pieces, 2, &file)?,
                });
                reader.sequences += batch.num_rows();
            }
            let found = (reader.sequences - before) as u64;
            if found != bucket_plan.sequences {
                let reason = format!("it holds {found} sequences and the plan has {}", bucket_plan.sequences);
                return Err(Error::damaged(&file.path, reason));
            }
        }
        Ok(reader)
    }

    /// How many sequences the stage has.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Sequence `index` of the stage.
    pub fn sequence(&self, index: usize) -> Result<Sequence<'_>> {
        let next = self.batches.partition_point(|batch| batch.first_sequence <= index);
        let batch = next.checked_sub(1).map(|last| &self.batches[last]);
        let batch = batch.filter(|batch| index - batch.first_sequence < batch.input_ids.len());
        let batch = batch.ok_or_else(|| Error::NoSequence { index, sequences: self.sequences })?;
        let row = index - batch.first_sequence;
        let (input_ids, labels) = (batch.input_ids.get(row), batch.labels.get(row));
        let segments = batch.segments.get(row);
        let pieces = batch.segments.range(row);
        let positions: u64 = segments.iter().map(|positions| u64::from(*positions)).sum();
        if input_ids.len() != labels.len() || positions != input_ids.len() as u64 {
            return Err(Error::damaged(&batch.path, format!("the columns of sequence {row} do not fit")));
        }
        let offsets = &batch.offsets[pieces.clone()];
        let beginnings = offsets.iter().filter(|offset| **offset == 0).count();
        Ok(Sequence {
            input_ids,
            labels,
            segments,
            bucket: batch.bucket,
            document_tokens: (input_ids.len() + beginnings) as u32,
            datasets: &batch.datasets[pieces.clone()],
            documents: &batch.documents[pieces],
            offsets,
        })
    }
}

fn numbers<T: ArrowPrimitiveType>(
    pieces: &StructArray,
    index: usize,
    file: &ArrowFile,
) -> Result<ScalarBuffer<T::Native>> {
    let column = pieces.column(index).as_any().downcast_ref::<arrow_array::PrimitiveArray<T>>();
    let column = column.ok_or_else(|| Error::damaged(&file.path, "documents have another type"))?;
    Ok(column.values().clone())
}
