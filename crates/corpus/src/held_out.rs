//! Reads the held-out documents of a dataset.

use std::path::Path;

use arrow_array::LargeStringArray;
use arrow_array::types::UInt32Type;
use arrow_buffer::ScalarBuffer;

use crate::arrow_file::{ArrowFile, Lists, column, numbers32, numbers64};
use crate::encoder::EncodedDocument;
use crate::error::Result;
use crate::tokenized::{HELD_OUT, HELD_OUT_SCHEMA};

/// The documents of a dataset that are never trained on, memory-mapped.
#[derive(Debug)]
pub struct HeldOut {
    batches: Vec<Batch>,
}

#[derive(Debug)]
struct Batch {
    ids: Lists<UInt32Type>,
    prompt_ids: ScalarBuffer<u32>,
    text_bytes: ScalarBuffer<u64>,
    prompts: LargeStringArray,
    texts: LargeStringArray,
}

impl HeldOut {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let file = ArrowFile::open(&folder.join(HELD_OUT), &HELD_OUT_SCHEMA)?;
        let mut batches = Vec::new();
        for batch in &file.batches {
            batches.push(Batch {
                ids: Lists::of(&file, batch, 0)?,
                prompt_ids: numbers32(&file, batch, 1)?,
                text_bytes: numbers64(&file, batch, 2)?,
                prompts: column::<LargeStringArray>(&file, batch, 6)?.clone(),
                texts: column::<LargeStringArray>(&file, batch, 7)?.clone(),
            });
        }
        Ok(Self { batches })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.batches.iter().map(|batch| batch.ids.len()).sum()
    }

    /// The documents, in the order of the dataset.
    pub fn documents(&self) -> impl Iterator<Item = EncodedDocument> + '_ {
        self.batches.iter().flat_map(|batch| {
            (0..batch.ids.len()).map(|row| EncodedDocument {
                ids: batch.ids.get(row).to_vec(),
                prompt_ids: batch.prompt_ids[row] as usize,
                text_bytes: batch.text_bytes[row],
                prompt: batch.prompts.value(row).to_owned(),
                text: batch.texts.value(row).to_owned(),
            })
        })
    }
}
