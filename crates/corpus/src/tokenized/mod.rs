//! A dataset's documents as ids: an Arrow file that is made once for a dataset and a tokenizer.
//!
//! ```text
//! prepared/tokenized/KEY/documents.arrow    what may be trained on: ids, prompt_ids, text_bytes, file, record, category
//!                        held-out.arrow     what may not; with prompt and text as strings too
//!                        manifest.json      counts and file names; written last
//! ```

mod pipeline;
mod writer;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow_array::types::UInt32Type;
use arrow_array::{Array, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::arrow_file::{ArrowFile, Lists, column, field, list_type, numbers32, numbers64};
use crate::digest::digest_of;
use crate::encoder::{Ends, TextEncoder};
use crate::error::{Error, Result};
use crate::hold_out::HoldOutThreshold;
use crate::source::Source;

pub(crate) use self::pipeline::{Tokenization, tokenize};
pub(crate) use self::writer::write_error;

/// Raised when the files' meaning changes, so that older ones are not found.
const FORMAT: u32 = 1;

pub(crate) const DOCUMENTS: &str = "documents.arrow";
pub(crate) const HELD_OUT: &str = "held-out.arrow";
const MANIFEST: &str = "manifest.json";

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// What may be trained on.
    pub(crate) documents: u64,
    pub(crate) tokens: u64,
    pub(crate) held_out_documents: u64,
    pub(crate) held_out_tokens: u64,
    /// UTF-8 bytes of the held-out texts.
    pub(crate) held_out_bytes: u64,
    /// The names of the files, as `file` of a document counts them.
    pub(crate) files: Vec<String>,
}

/// The schema of `documents.arrow`.
pub(crate) static DOCUMENT_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(document_fields())));

/// The schema of `held-out.arrow`.
pub(crate) static HELD_OUT_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = document_fields();
    fields.extend([field("prompt", DataType::LargeUtf8), field("text", DataType::LargeUtf8)]);
    Arc::new(Schema::new(fields))
});

fn document_fields() -> Vec<Field> {
    vec![
        field("ids", list_type(DataType::UInt32)),
        // BOS and the ids wholly inside the prompt.
        field("prompt_ids", DataType::UInt32),
        // UTF-8 bytes of the text, the prompt's not counted.
        field("text_bytes", DataType::UInt64),
        // Which of the manifest's files, and which line or row of it, from 1.
        field("file", DataType::UInt32),
        field("record", DataType::UInt64),
        Field::new("category", DataType::Utf8, true),
    ]
}

/// What decides the content of the files.
pub(crate) fn key_of(
    source: &Source,
    digests: &[String],
    threshold: HoldOutThreshold,
    encoder: &dyn TextEncoder,
    ends: Ends,
) -> Result<String> {
    let names: Vec<&str> = source.files.iter().map(|file| file.name.as_str()).collect();
    let (tokenizer, hold_out) = (encoder.digest(), threshold.key());
    digest_of(&(FORMAT, names, digests, source.format, &source.fields, hold_out, tokenizer, (ends.begin, ends.end)))
}

/// The folder of a key.
pub(crate) fn folder_of(prepared: &Path, key: &str) -> PathBuf {
    prepared.join("tokenized").join(key)
}

/// The manifest of a folder; nothing where the folder is not there or not whole.
pub(crate) fn read_manifest(folder: &Path) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()?;
    (manifest.format == FORMAT).then_some(manifest)
}

/// The documents of a dataset that may be trained on. What is held in memory is 4 bytes a document, 8 where there are
/// prompts; ids are read from the file as they are asked for.
pub(crate) struct Documents {
    path: PathBuf,
    file: File,
    /// Where each document's ids end, counted from the beginning of its record batch.
    ends: Vec<u32>,
    batches: Vec<BatchPlace>,
    /// How many of each document's first ids are no targets; absent where it is 1 for all.
    prompt_ids: Option<Vec<u32>>,
    pub(crate) tokens: u64,
}

struct BatchPlace {
    first_document: u32,
    /// Where its ids lie in the file.
    ids_at: u64,
}

impl Documents {
    /// Opens the documents of a tokenised dataset.
    pub(crate) fn open(dataset: &str, folder: &Path) -> Result<Self> {
        let path = folder.join(DOCUMENTS);
        let mapped = ArrowFile::open(&path, &DOCUMENT_SCHEMA)?;
        let mut documents = Self {
            file: File::open(&path).map_err(Error::io("open", &path))?,
            path,
            ends: Vec::new(),
            batches: Vec::new(),
            prompt_ids: None,
            tokens: 0,
        };
        let rows: usize = mapped.batches.iter().map(|batch| batch.num_rows()).sum();
        if u32::try_from(rows).is_err() {
            return Err(Error::TooManyDocuments { dataset: dataset.to_owned() });
        }
        let mut prompt_ids = Vec::with_capacity(rows);
        for batch in &mapped.batches {
            let ids: Lists<UInt32Type> = Lists::of(&mapped, batch, 0)?;
            let ids_at = mapped.offset_of::<UInt32Type>(ids.values());
            documents.batches.push(BatchPlace { first_document: documents.ends.len() as u32, ids_at });
            documents.ends.extend(ids.ends().iter().map(|end| *end as u32));
            documents.tokens += ids.values().len() as u64;
            prompt_ids.extend_from_slice(&numbers32(&mapped, batch, 1)?);
        }
        if prompt_ids.iter().any(|count| *count != 1) {
            documents.prompt_ids = Some(prompt_ids);
        }
        Ok(documents)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The ids of a document.
    pub(crate) fn length(&self, document: u32) -> u32 {
        self.place(document).1
    }

    /// How many of a document's first ids are no targets: BOS and those wholly inside the prompt.
    pub(crate) fn prompt_ids(&self, document: u32) -> u32 {
        self.prompt_ids.as_ref().map_or(1, |counts| counts[document as usize])
    }

    /// The first document with more than `most` ids that are no targets.
    pub(crate) fn with_longer_prompt(&self, most: u32) -> Option<u32> {
        let counts = self.prompt_ids.as_ref()?;
        counts.iter().position(|count| *count > most).map(|document| document as u32)
    }

    /// Appends `count` ids of a document from `offset` on.
    pub(crate) fn read(&self, document: u32, offset: u32, count: u32, ids: &mut Vec<u32>) -> Result<()> {
        let (document_at, length) = self.place(document);
        debug_assert!(offset + count <= length);
        let mut bytes = vec![0; count as usize * 4];
        let at = document_at + u64::from(offset) * 4;
        self.file.read_exact_at(&mut bytes, at).map_err(Error::io("read", &self.path))?;
        let (words, _) = bytes.as_chunks::<4>();
        ids.extend(words.iter().map(|word| u32::from_le_bytes(*word)));
        Ok(())
    }

    /// Where a document's ids lie in the file, and how many they are.
    fn place(&self, document: u32) -> (u64, u32) {
        let next = self.batches.partition_point(|batch| batch.first_document <= document);
        let batch = &self.batches[next - 1];
        let start = if document == batch.first_document { 0 } else { self.ends[document as usize - 1] };
        (batch.ids_at + u64::from(start) * 4, self.ends[document as usize] - start)
    }
}

/// Where documents came from.
pub(crate) struct Origins {
    batches: Vec<OriginBatch>,
}

struct OriginBatch {
    first_document: u64,
    files: arrow_buffer::ScalarBuffer<u32>,
    records: arrow_buffer::ScalarBuffer<u64>,
    categories: StringArray,
    ids: Lists<UInt32Type>,
}

/// Where a document came from.
pub(crate) struct Origin<'a> {
    pub(crate) file: u32,
    pub(crate) record: u64,
    pub(crate) category: Option<&'a str>,
    pub(crate) ids: &'a [u32],
}

impl Origins {
    /// Maps the documents of a tokenised dataset.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let file = ArrowFile::open(&folder.join(DOCUMENTS), &DOCUMENT_SCHEMA)?;
        let mut batches = Vec::new();
        let mut first_document = 0;
        for batch in &file.batches {
            batches.push(OriginBatch {
                first_document,
                files: numbers32(&file, batch, 3)?,
                records: numbers64(&file, batch, 4)?,
                categories: column::<StringArray>(&file, batch, 5)?.clone(),
                ids: Lists::of(&file, batch, 0)?,
            });
            first_document += batch.num_rows() as u64;
        }
        Ok(Self { batches })
    }

    /// That of a document.
    pub(crate) fn get(&self, document: u64) -> Option<Origin<'_>> {
        let next = self.batches.partition_point(|batch| batch.first_document <= document);
        let batch = self.batches.get(next.checked_sub(1)?)?;
        let row = (document - batch.first_document) as usize;
        if row >= batch.ids.len() {
            return None;
        }
        let category = batch.categories.is_valid(row).then(|| batch.categories.value(row));
        Some(Origin { file: batch.files[row], record: batch.records[row], category, ids: batch.ids.get(row) })
    }
}
