//! From a chunk to its records.

use palimpsest_api::Fields;

use super::chunks::ChunkContent;
use super::json::{self, Value};
use super::{Chunk, Source};
use crate::error::{Error, RecordProblem, Result};

/// A document as it stands in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its line or row, from 1.
    pub(crate) number: u64,
    /// What is masked from the loss; empty where there is none.
    pub(crate) prompt: String,
    pub(crate) text: String,
    pub(crate) category: Option<String>,
}

/// Hands the records of a chunk to `visit`, in order. Lines of white space alone are none.
pub(crate) fn records(source: &Source, chunk: Chunk, visit: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
    let file = chunk.file;
    match chunk.content {
        ChunkContent::Records(records) => records.into_iter().try_for_each(visit),
        ChunkContent::Text(bytes) => {
            let text = String::from_utf8(bytes).map_err(|error| {
                let problem = RecordProblem::NotUtf8(error.utf8_error().valid_up_to() + 1);
                Error::Record { place: source.place(file, 0), problem }
            })?;
            let text = match text.strip_prefix(BYTE_ORDER_MARK) {
                Some(rest) => rest.to_owned(),
                None => text,
            };
            visit(Record { number: 1, text, ..Record::default() })
        }
        ChunkContent::Lines { first, bytes } => {
            for (line, number) in bytes.split_inclusive(|byte| *byte == b'\n').zip(first..) {
                let record = parse_line(line, number, &source.fields);
                let record = record.map_err(|problem| Error::Record { place: source.place(file, number), problem })?;
                if let Some(record) = record {
                    visit(record)?;
                }
            }
            Ok(())
        }
    }
}

/// What some editors write at the beginning of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

fn parse_line(line: &[u8], number: u64, fields: &Fields) -> Result<Option<Record>, RecordProblem> {
    let line = std::str::from_utf8(line).map_err(|error| RecordProblem::NotUtf8(error.valid_up_to() + 1))?;
    let line = if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
    let line = line.trim_end();
    if line.trim_start().is_empty() {
        return Ok(None);
    }
    let parsed = json::parse(line, fields)?;
    let text = string(parsed.text, &fields.text)?.ok_or_else(|| RecordProblem::NoText(fields.text.clone()))?;
    let prompt = string(parsed.prompt, &fields.prompt)?.unwrap_or_default();
    let category = string(parsed.category, &fields.category)?;
    Ok(Some(Record { number, prompt, text, category }))
}

fn string(value: Value, field: &str) -> Result<Option<String>, RecordProblem> {
    match value {
        Value::Absent => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Other(kind) => Err(RecordProblem::NotAString { field: field.to_owned(), kind: kind.to_owned() }),
    }
}
