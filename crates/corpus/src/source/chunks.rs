//! Cuts a dataset's files into chunks, in order.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use palimpsest_api::DatasetFormat;

use super::Source;
use super::decompress::Content;
use super::parquet::Rows;
use super::records::Record;
use crate::error::{Error, MOST_DOCUMENT_BYTES, RecordProblem, Result};

/// A chunk is closed when it holds as many bytes.
const CHUNK_BYTES: usize = 1 << 18;

/// A stretch of a file.
pub(crate) struct Chunk {
    /// Which file of the source.
    pub(crate) file: u32,
    pub(super) content: ChunkContent,
}

pub(super) enum ChunkContent {
    /// Whole lines, not parsed.
    Lines {
        /// The number of the first.
        first: u64,
        bytes: Vec<u8>,
    },
    /// A whole file, which is one document.
    Text(Vec<u8>),
    /// Rows of a table.
    Records(Vec<Record>),
}

/// The chunks of a source.
pub(crate) struct Chunks {
    source: Arc<Source>,
    counter: Arc<AtomicU64>,
    next_file: u32,
    open: Option<OpenFile>,
    is_broken: bool,
}

enum OpenFile {
    Lines(Lines),
    Rows(Box<Rows>),
}

impl Chunks {
    /// Begins at the first file. `counter` hears of the bytes read.
    pub(crate) fn new(source: Arc<Source>, counter: Arc<AtomicU64>) -> Self {
        Self { source, counter, next_file: 0, open: None, is_broken: false }
    }

    fn advance(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(open) = &mut self.open {
                let file = self.next_file - 1;
                let content = match open {
                    OpenFile::Lines(lines) => lines.next_chunk(&self.source, file)?,
                    OpenFile::Rows(rows) => rows.next_chunk(&self.source, file, &self.counter)?,
                };
                if let Some(content) = content {
                    return Ok(Some(Chunk { file, content }));
                }
                self.open = None;
            }
            let file = self.next_file;
            let Some(source_file) = self.source.files.get(file as usize) else { return Ok(None) };
            self.next_file += 1;
            match self.source.format {
                DatasetFormat::Jsonl => {
                    let content = Content::open(&source_file.path, &self.counter)?;
                    self.open = Some(OpenFile::Lines(Lines::new(content)));
                }
                DatasetFormat::Parquet => self.open = Some(OpenFile::Rows(Box::new(Rows::open(&self.source, file)?))),
                DatasetFormat::Text => {
                    let content = Content::open(&source_file.path, &self.counter)?;
                    let content = ChunkContent::Text(read_text(content, &self.source, file)?);
                    return Ok(Some(Chunk { file, content }));
                }
            }
        }
    }
}

impl Iterator for Chunks {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_broken {
            return None;
        }
        let chunk = self.advance();
        self.is_broken = chunk.is_err();
        chunk.transpose()
    }
}

struct Lines {
    reader: BufReader<Content>,
    is_compressed: bool,
    next_line: u64,
}

impl Lines {
    fn new(content: Content) -> Self {
        let is_compressed = content.is_compressed;
        Self { reader: BufReader::with_capacity(1 << 17, content), is_compressed, next_line: 1 }
    }

    fn next_chunk(&mut self, source: &Source, file: u32) -> Result<Option<ChunkContent>> {
        let first = self.next_line;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        while bytes.len() < CHUNK_BYTES {
            let mut limited = self.reader.by_ref().take(MOST_DOCUMENT_BYTES as u64);
            let read = limited.read_until(b'\n', &mut bytes);
            let count = read.map_err(|error| broken(error, self.is_compressed, source, file))?;
            if count == 0 {
                break;
            }
            if count == MOST_DOCUMENT_BYTES && bytes.last() != Some(&b'\n') {
                let place = source.place(file, self.next_line);
                return Err(Error::Record { place, problem: RecordProblem::TooLong });
            }
            self.next_line += 1;
        }
        Ok((!bytes.is_empty()).then_some(ChunkContent::Lines { first, bytes }))
    }
}

fn read_text(mut content: Content, source: &Source, file: u32) -> Result<Vec<u8>> {
    let is_compressed = content.is_compressed;
    let mut bytes = Vec::new();
    let read = content.by_ref().take(MOST_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| broken(error, is_compressed, source, file))?;
    if bytes.len() > MOST_DOCUMENT_BYTES {
        return Err(Error::Record { place: source.place(file, 0), problem: RecordProblem::TooLong });
    }
    Ok(bytes)
}

/// The error of reading a file: whose fault it is depends on whether it is compressed.
fn broken(error: std::io::Error, is_compressed: bool, source: &Source, file: u32) -> Error {
    let place = source.place(file, 0);
    if is_compressed {
        return Error::Record { place, problem: RecordProblem::Compression(error.to_string()) };
    }
    Error::io("read", &place.path)(error)
}
