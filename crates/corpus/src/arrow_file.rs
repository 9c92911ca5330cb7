//! Arrow IPC files, mapped into memory: columns are read where they lie.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{Array, ListArray, RecordBatch, UInt32Array, UInt64Array};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::root_as_footer;
use arrow_schema::{DataType, Field, SchemaRef};
use bytes::Bytes;

use crate::error::{Error, Result};

/// A file's record batches, whose columns lie in the mapped file.
#[derive(Debug)]
pub(crate) struct ArrowFile {
    pub(crate) path: PathBuf,
    pub(crate) batches: Vec<RecordBatch>,
    /// The address that the file's first byte is mapped to.
    base: usize,
}

impl ArrowFile {
    /// Maps a file and finds its columns, which must be those of `schema`.
    pub(crate) fn open(path: &Path, schema: &SchemaRef) -> Result<Self> {
        let bytes = map(path)?;
        let base = bytes.as_ptr() as usize;
        let batches = read_batches(bytes, schema).map_err(|reason| Error::damaged(path, reason))?;
        Ok(Self { path: path.to_owned(), batches, base })
    }

    /// Where in the file a column's values lie.
    pub(crate) fn offset_of<T: ArrowPrimitiveType>(&self, values: &ScalarBuffer<T::Native>) -> u64 {
        (values.as_ptr() as usize).wrapping_sub(self.base) as u64
    }
}

fn read_batches(bytes: Bytes, schema: &SchemaRef) -> Result<Vec<RecordBatch>, String> {
    let buffer = Buffer::from(bytes);
    let trailer = buffer.len().checked_sub(10).ok_or("the file is cut short")?;
    let mut ending = [0; 10];
    ending.copy_from_slice(&buffer[trailer..]);
    let footer_length = read_footer_length(ending).map_err(|error| error.to_string())?;
    let footer_start = trailer.checked_sub(footer_length).ok_or("the file is cut short")?;
    let footer = root_as_footer(&buffer[footer_start..trailer]).map_err(|error| error.to_string())?;
    let found = footer.schema().ok_or("the file has no schema")?;
    let found = try_fb_to_schema(found).map_err(|error| error.to_string())?;
    if found.fields() != schema.fields() {
        return Err("the file's columns are not those expected".to_owned());
    }
    let decoder = FileDecoder::new(schema.clone(), footer.version());
    let mut batches = Vec::new();
    for block in footer.recordBatches().unwrap_or_default() {
        let length = block.bodyLength() as usize + block.metaDataLength() as usize;
        let start = block.offset() as usize;
        if start.checked_add(length).is_none_or(|end| end > footer_start) {
            return Err("the file is cut short".to_owned());
        }
        let batch = decoder.read_record_batch(block, &buffer.slice_with_length(start, length));
        batches.extend(batch.map_err(|error| error.to_string())?);
    }
    Ok(batches)
}

/// The bytes of a file, mapped.
#[allow(unsafe_code)]
fn map(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // SAFETY: the file was renamed into place whole and nothing of ours ever writes to it again. Whoever cuts a prepared
    // file short while a job reads it stops that job with SIGBUS, as with every mapped file.
    let mapped = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
    Ok(Bytes::from_owner(mapped))
}

/// A column of lists of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Lists<T: ArrowPrimitiveType> {
    offsets: OffsetBuffer<i32>,
    values: ScalarBuffer<T::Native>,
}

impl<T: ArrowPrimitiveType> Lists<T> {
    /// Column `index` of a batch, known to be one of such lists.
    pub(crate) fn of(file: &ArrowFile, batch: &RecordBatch, index: usize) -> Result<Self> {
        let lists: &ListArray = column(file, batch, index)?;
        let values = lists.values().as_any().downcast_ref::<arrow_array::PrimitiveArray<T>>();
        let values = values.ok_or_else(|| Error::damaged(&file.path, "a column has another type"))?;
        Ok(Self { offsets: lists.offsets().clone(), values: values.values().clone() })
    }

    /// How many lists there are.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// A list.
    pub(crate) fn get(&self, index: usize) -> &[T::Native] {
        &self.values[self.range(index)]
    }

    /// Where a list's values lie among all values.
    pub(crate) fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.offsets[index] as usize..self.offsets[index + 1] as usize
    }

    /// Where each list ends in the values, the first offset left out.
    pub(crate) fn ends(&self) -> &[i32] {
        &self.offsets[1..]
    }

    pub(crate) fn values(&self) -> &ScalarBuffer<T::Native> {
        &self.values
    }
}

/// A column of a batch, known to have this type.
pub(crate) fn column<'a, A: Array + 'static>(file: &ArrowFile, batch: &'a RecordBatch, index: usize) -> Result<&'a A> {
    let column = batch.columns().get(index).and_then(|column| column.as_any().downcast_ref::<A>());
    column.ok_or_else(|| Error::damaged(&file.path, format!("column {index} is missing or has another type")))
}

/// A column of 32-bit numbers.
pub(crate) fn numbers32(file: &ArrowFile, batch: &RecordBatch, index: usize) -> Result<ScalarBuffer<u32>> {
    Ok(column::<UInt32Array>(file, batch, index)?.values().clone())
}

/// A column of 64-bit numbers.
pub(crate) fn numbers64(file: &ArrowFile, batch: &RecordBatch, index: usize) -> Result<ScalarBuffer<u64>> {
    Ok(column::<UInt64Array>(file, batch, index)?.values().clone())
}

/// A field of a schema that is never null.
pub(crate) fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// The type of lists.
pub(crate) fn list_type(item: DataType) -> DataType {
    DataType::List(item_field(item))
}

/// The field of the items of lists.
pub(crate) fn item_field(item: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", item, false))
}
