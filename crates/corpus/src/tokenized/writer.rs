//! Writes tokenised documents as Arrow record batches.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, LargeStringArray, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, SchemaRef};

use crate::arrow_file::item_field;
use crate::error::{Error, Result};

/// A record batch is closed when it holds as many ids or documents.
const BATCH_IDS: usize = 1 << 20;
const BATCH_DOCUMENTS: usize = 1 << 16;

/// Documents as ids, column by column.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) ids: Vec<u32>,
    pub(super) lengths: Vec<usize>,
    pub(super) prompt_ids: Vec<u32>,
    pub(super) text_bytes: Vec<u64>,
    pub(super) files: Vec<u32>,
    pub(super) records: Vec<u64>,
    pub(super) categories: Vec<Option<String>>,
    /// Prompt and text, of held-out documents alone.
    pub(super) strings: Vec<(String, String)>,
}

impl Columns {
    fn append(&mut self, mut other: Self) {
        self.ids.append(&mut other.ids);
        self.lengths.append(&mut other.lengths);
        self.prompt_ids.append(&mut other.prompt_ids);
        self.text_bytes.append(&mut other.text_bytes);
        self.files.append(&mut other.files);
        self.records.append(&mut other.records);
        self.categories.append(&mut other.categories);
        self.strings.append(&mut other.strings);
    }
}

/// A file that is being written.
pub(super) struct DocumentWriter {
    path: PathBuf,
    schema: SchemaRef,
    writer: FileWriter<BufWriter<File>>,
    pending: Columns,
    pub(super) documents: u64,
    pub(super) tokens: u64,
    pub(super) text_bytes: u64,
}

impl DocumentWriter {
    pub(super) fn create(path: PathBuf, schema: &SchemaRef) -> Result<Self> {
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        let writer = FileWriter::try_new_buffered(file, schema).map_err(|error| write_error(&path, error))?;
        let (schema, pending) = (schema.clone(), Columns::default());
        Ok(Self { path, schema, writer, pending, documents: 0, tokens: 0, text_bytes: 0 })
    }

    /// Appends documents.
    pub(super) fn append(&mut self, columns: Columns) -> Result<()> {
        self.documents += columns.lengths.len() as u64;
        self.tokens += columns.ids.len() as u64;
        self.text_bytes += columns.text_bytes.iter().sum::<u64>();
        self.pending.append(columns);
        if self.pending.ids.len() >= BATCH_IDS || self.pending.lengths.len() >= BATCH_DOCUMENTS {
            self.write_batch()?;
        }
        Ok(())
    }

    /// Writes what is left and the footer.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write_batch()?;
        self.writer.finish().map_err(|error| write_error(&self.path, error))
    }

    fn write_batch(&mut self) -> Result<()> {
        if self.pending.lengths.is_empty() {
            return Ok(());
        }
        let columns = std::mem::take(&mut self.pending);
        let offsets = OffsetBuffer::from_lengths(columns.lengths);
        let ids = Arc::new(UInt32Array::from(columns.ids));
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(ListArray::new(item_field(DataType::UInt32), offsets, ids, None)),
            Arc::new(UInt32Array::from(columns.prompt_ids)),
            Arc::new(UInt64Array::from(columns.text_bytes)),
            Arc::new(UInt32Array::from(columns.files)),
            Arc::new(UInt64Array::from(columns.records)),
            Arc::new(StringArray::from(columns.categories)),
        ];
        if self.schema.fields().len() > arrays.len() {
            let prompts = columns.strings.iter().map(|(prompt, _)| prompt);
            arrays.push(Arc::new(LargeStringArray::from_iter_values(prompts)));
            arrays.push(Arc::new(LargeStringArray::from_iter_values(columns.strings.iter().map(|(_, text)| text))));
        }
        let batch = RecordBatch::try_new(self.schema.clone(), arrays);
        let written = batch.and_then(|batch| self.writer.write(&batch));
        written.map_err(|error| write_error(&self.path, error))
    }
}

/// The error of writing an Arrow file: the file system's, where it was that.
pub(crate) fn write_error(path: &Path, error: arrow_schema::ArrowError) -> Error {
    let source = match error {
        arrow_schema::ArrowError::IoError(_, source) => source,
        other => std::io::Error::other(other.to_string()),
    };
    Error::io("write", path)(source)
}
