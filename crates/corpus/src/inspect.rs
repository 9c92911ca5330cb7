//! What a bucket holds, decoded, and where each sequence came from.

use std::collections::HashMap;

use serde::Serialize;

use crate::encoder::TextEncoder;
use crate::error::{Error, Result, Unit};
use crate::plan::Plan;
use crate::reader::{PieceOrigin, Sequence, StageReader};
use crate::source::unit;
use crate::tokenized::Origins;

/// Looks into the buckets of a plan.
pub struct Inspector<'a> {
    plan: &'a Plan,
    encoder: &'a dyn TextEncoder,
    readers: HashMap<usize, StageReader>,
    origins: HashMap<u32, Origins>,
}

impl std::fmt::Debug for Inspector<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("plan", &self.plan.digest).finish_non_exhaustive()
    }
}

/// A sequence and what it holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectedSequence {
    /// The stage's name.
    pub stage: String,
    /// Its bucket, from 1.
    pub bucket: u32,
    /// Its number in the stage, from 1.
    pub sequence: usize,
    /// Its number in the bucket, from 1.
    pub sequence_in_bucket: usize,
    /// The step of the stage that takes it, from 1.
    pub step: u64,
    /// Input positions that hold something.
    pub positions: u32,
    /// Input positions that hold nothing.
    pub padding: u32,
    /// Its pieces, in order.
    pub pieces: Vec<InspectedPiece>,
}

/// A stretch of a document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectedPiece {
    /// The dataset's name.
    pub dataset: String,
    /// Which document of the dataset, from 1, held-out ones not counted.
    pub document: u64,
    /// The URI of the file.
    pub file: String,
    /// What the records of the file are.
    pub unit: Unit,
    /// Which line or row of the file, from 1; 0 where the file is the document.
    pub record: u64,
    /// The record's category.
    pub category: Option<String>,
    /// Where the piece begins in the document's ids.
    pub offset: u32,
    /// Input positions of the piece; it spans one id more.
    pub positions: u32,
    /// Ids of the document.
    pub document_ids: u32,
    /// Positions that the loss is taken over.
    pub targets: u32,
    /// The piece's ids as text, special ones left out.
    pub text: String,
    /// The input ids.
    pub input_ids: Vec<u32>,
    /// The id that follows each input, -100 where the loss is not taken.
    pub labels: Vec<i32>,
}

impl InspectedPiece {
    /// `FILE line N`, `FILE row N`, or the file alone where it is the document.
    pub fn place(&self) -> String {
        match self.unit {
            Unit::Line => format!("{} line {}", self.file, self.record),
            Unit::Row => format!("{} row {}", self.file, self.record),
            Unit::File => self.file.clone(),
        }
    }
}

impl<'a> Inspector<'a> {
    /// An inspector of a plan. `encoder` is the plan's tokenizer.
    pub fn new(plan: &'a Plan, encoder: &'a dyn TextEncoder) -> Self {
        Self { plan, encoder, readers: HashMap::new(), origins: HashMap::new() }
    }

    /// The numbers of a bucket's sequences in its stage.
    pub fn bucket(&self, stage: usize, bucket: usize) -> Result<std::ops::Range<usize>> {
        let buckets = self.plan.stages.get(stage).map(|stage| &stage.buckets[..]).unwrap_or_default();
        let Some(plan) = buckets.get(bucket) else {
            return Err(Error::NoBucket { stage, bucket, buckets: buckets.len() });
        };
        let first: u64 = buckets[..bucket].iter().map(|bucket| bucket.sequences).sum();
        Ok(first as usize..(first + plan.sequences) as usize)
    }

    /// A sequence of a stage. Both count from 0, as [`Inspector::bucket`] does; what comes back counts as a person does.
    pub fn sequence(&mut self, stage: usize, index: usize) -> Result<InspectedSequence> {
        let Some(stage_plan) = self.plan.stages.get(stage) else {
            return Err(Error::NoBucket { stage, bucket: 0, buckets: 0 });
        };
        if !self.readers.contains_key(&stage) {
            self.readers.insert(stage, self.plan.reader(stage)?);
        }
        let reader = &self.readers[&stage];
        let sequence = reader.sequence(index)?;
        for origin in sequence.origins() {
            if !self.origins.contains_key(&origin.dataset) {
                let dataset = &self.plan.datasets[origin.dataset as usize];
                self.origins.insert(origin.dataset, Origins::open(&self.plan.tokenized_folder(dataset))?);
            }
        }
        let mut pieces = Vec::new();
        let mut start = 0;
        for (origin, positions) in sequence.origins().zip(sequence.segments) {
            let range = start..start + *positions as usize;
            pieces.push(self.piece(&sequence, origin, range)?);
            start += *positions as usize;
        }
        Ok(InspectedSequence {
            stage: stage_plan.name.clone(),
            bucket: sequence.bucket + 1,
            sequence: index + 1,
            sequence_in_bucket: index + 1 - self.bucket(stage, sequence.bucket as usize)?.start,
            step: index as u64 / u64::from(stage_plan.batch_sequences.max(1)) + 1,
            positions: start as u32,
            padding: self.plan.sequence_length - start as u32,
            pieces,
        })
    }

    fn piece(
        &self,
        sequence: &Sequence<'_>,
        origin: PieceOrigin,
        range: std::ops::Range<usize>,
    ) -> Result<InspectedPiece> {
        let dataset = &self.plan.datasets[origin.dataset as usize];
        let folder = self.plan.tokenized_folder(dataset);
        let document = self.origins.get(&origin.dataset).and_then(|origins| origins.get(origin.document));
        let document = document.ok_or_else(|| Error::damaged(&folder, "it lacks a document of the plan"))?;
        let (start, end) = (origin.offset as usize, origin.offset as usize + range.len() + 1);
        let span = document.ids.get(start..end).ok_or_else(|| Error::damaged(&folder, "a document is too short"))?;
        let name = &dataset.files[document.file as usize];
        let is_file = dataset.files.len() == 1 && dataset.uri.ends_with(name.as_str());
        let uri = dataset.uri.trim_end_matches('/');
        let unit = unit(dataset.format);
        Ok(InspectedPiece {
            dataset: dataset.name.clone(),
            document: origin.document + 1,
            file: if is_file { uri.to_owned() } else { format!("{uri}/{name}") },
            unit,
            record: if unit == Unit::File { 0 } else { document.record },
            category: document.category.map(str::to_owned),
            offset: origin.offset,
            positions: range.len() as u32,
            document_ids: document.ids.len() as u32,
            targets: sequence.labels[range.clone()].iter().filter(|label| **label >= 0).count() as u32,
            text: self.encoder.decode(span),
            input_ids: sequence.input_ids[range.clone()].to_vec(),
            labels: sequence.labels[range].to_vec(),
        })
    }
}
