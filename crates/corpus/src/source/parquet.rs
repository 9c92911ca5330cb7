//! Rows of a Parquet file.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array, LargeStringArray};
use arrow_schema::{ArrowError, DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::Source;
use super::chunks::ChunkContent;
use super::records::Record;
use crate::error::{Error, RecordProblem, Result};

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 256;

/// The rows of an open file.
pub(super) struct Rows {
    reader: ParquetRecordBatchReader,
    next_row: u64,
    rows: u64,
    /// Of the file, for progress.
    bytes: u64,
}

impl Rows {
    /// Opens file `file` of a source and looks at its columns.
    pub(super) fn open(source: &Source, file: u32) -> Result<Self> {
        let source_file = &source.files[file as usize];
        let handle = File::open(&source_file.path).map_err(Error::io("open", &source_file.path))?;
        let in_file = |problem| Error::Record { place: source.place(file, 0), problem };
        let unreadable = |error: parquet::errors::ParquetError| in_file(RecordProblem::NotParquet(error.to_string()));
        let builder = ParquetRecordBatchReaderBuilder::try_new(handle).map_err(unreadable)?;
        let columns = wanted_columns(source, builder.schema()).map_err(in_file)?;
        let rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(unreadable)?;
        Ok(Self { reader, next_row: 1, rows, bytes: source_file.bytes })
    }

    pub(super) fn next_chunk(
        &mut self,
        source: &Source,
        file: u32,
        counter: &Arc<AtomicU64>,
    ) -> Result<Option<ChunkContent>> {
        let Some(batch) = self.reader.next() else { return Ok(None) };
        let unreadable = |error: ArrowError| Error::Record {
            place: source.place(file, 0),
            problem: RecordProblem::NotParquet(error.to_string()),
        };
        let batch = batch.map_err(unreadable)?;
        let first = self.next_row;
        self.next_row += batch.num_rows() as u64;
        let share = |rows: u64| (u128::from(self.bytes) * u128::from(rows) / u128::from(self.rows.max(1))) as u64;
        counter.fetch_add(share(self.next_row - 1) - share(first - 1), Ordering::Relaxed);

        let column = |name: &str| batch.column_by_name(name).map(|column| strings(column));
        let fields = &source.fields;
        let (text, prompt, category) = (column(&fields.text), column(&fields.prompt), column(&fields.category));
        let get = |column: &Option<LargeStringArray>, row: usize| {
            column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned())
        };
        let mut records = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let number = first + row as u64;
            let in_row = |problem| Error::Record { place: source.place(file, number), problem };
            let text = get(&text, row).ok_or_else(|| in_row(RecordProblem::NoText(source.fields.text.clone())))?;
            let prompt = get(&prompt, row).unwrap_or_default();
            if text.len() + prompt.len() > crate::error::MOST_DOCUMENT_BYTES {
                return Err(in_row(RecordProblem::TooLong));
            }
            records.push(Record { number, prompt, text, category: get(&category, row) });
        }
        Ok(Some(ChunkContent::Records(records)))
    }
}

/// The indices of the columns that are read.
fn wanted_columns(source: &Source, schema: &Schema) -> Result<Vec<usize>, RecordProblem> {
    let fields = &source.fields;
    let mut columns = Vec::new();
    for name in [&fields.text, &fields.prompt, &fields.category] {
        let Some((index, field)) = schema.column_with_name(name) else { continue };
        if !is_text(field.data_type()) {
            let kind = format!("a column of type {}", field.data_type());
            return Err(RecordProblem::NotAString { field: name.clone(), kind });
        }
        columns.push(index);
    }
    if schema.column_with_name(&fields.text).is_none() {
        return Err(RecordProblem::NoColumn(fields.text.clone()));
    }
    Ok(columns)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// The texts of a column that [`is_text`].
fn strings(column: &dyn Array) -> LargeStringArray {
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().clone(),
        DataType::Utf8View => column.as_string_view().iter().collect(),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let values = strings(dictionary.values().as_ref());
            if values.is_empty() {
                return LargeStringArray::new_null(column.len());
            }
            let keys = dictionary.normalized_keys().into_iter().enumerate();
            keys.map(|(row, key)| (column.is_valid(row) && values.is_valid(key)).then(|| values.value(key))).collect()
        }
        _ => LargeStringArray::new_null(column.len()),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int8Type;
    use arrow_array::{DictionaryArray, NullArray, StringArray, StringViewArray};

    use super::*;

    #[test]
    fn text_is_read_however_it_is_kept() {
        let texts = [Some("a"), None, Some("b"), Some("a")];
        let expected = LargeStringArray::from_iter(texts);
        let columns: [&dyn Array; 4] = [
            &expected,
            &StringArray::from_iter(texts),
            &StringViewArray::from_iter(texts),
            &DictionaryArray::<Int8Type>::from_iter(texts),
        ];
        for column in columns {
            assert!(is_text(column.data_type()));
            assert_eq!(strings(column), expected, "{}", column.data_type());
        }
        let nothing = DictionaryArray::<Int8Type>::from_iter([None::<&str>; 4]);
        for column in [&NullArray::new(4) as &dyn Array, &nothing] {
            assert_eq!(strings(column), LargeStringArray::new_null(4));
        }
    }
}
