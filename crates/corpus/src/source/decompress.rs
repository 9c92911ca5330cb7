//! Opens a file, plain or compressed, and counts the bytes that are read of it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

/// A reader of a file's content.
pub(super) struct Content {
    reader: Box<dyn Read + Send>,
    pub(super) is_compressed: bool,
}

impl Content {
    /// Opens a file; `.gz` and `.zst` are decompressed. `counter` hears of the bytes read of the file itself.
    pub(super) fn open(path: &Path, counter: &Arc<AtomicU64>) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let counted = BufReader::with_capacity(1 << 17, Counted { file, counter: counter.clone() });
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        let ending = ending.as_deref().and_then(|ending| ending.to_str()).unwrap_or_default();
        let reader: Box<dyn Read + Send> = match ending {
            "gz" => Box::new(MultiGzDecoder::new(counted)),
            "zst" => {
                Box::new(zstd::stream::read::Decoder::with_buffer(counted).map_err(Error::io("decompress", path))?)
            }
            _ => Box::new(counted),
        };
        Ok(Self { reader, is_compressed: matches!(ending, "gz" | "zst") })
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

struct Counted {
    file: File,
    counter: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.counter.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
