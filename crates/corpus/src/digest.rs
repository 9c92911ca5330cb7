//! Digests of datasets' contents, remembered by the files' size and time so that an unchanged file is read once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::progress::{Phase, Reporter};
use crate::source::Source;

/// A file that changed as lately before its digest was taken may change again within the clock's resolution.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// `sources.json` of a folder of prepared data.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Digests {
    files: BTreeMap<PathBuf, Remembered>,
    #[serde(skip)]
    is_changed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    bytes: u64,
    modified: u128,
    digest: String,
}

impl Digests {
    /// Those remembered in a folder. A file that cannot be read means that nothing is remembered.
    pub(crate) fn read(folder: &Path) -> Self {
        let bytes = fs::read(folder.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Remembers them for the next time.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        let path = folder.join(FILE);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::io("write", &path)(error.into()))?;
        Ok(palimpsest_store::write_atomically(&path, &bytes)?)
    }

    /// The digests of a source's files.
    pub(crate) fn of(&mut self, source: &Source, reporter: &mut Reporter<'_>) -> Result<Vec<String>> {
        let total = source.bytes();
        let mut done = 0;
        let mut digests = Vec::with_capacity(source.files.len());
        for file in &source.files {
            let metadata = fs::metadata(&file.path).map_err(Error::io("read", &file.path))?;
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let path = fs::canonicalize(&file.path).map_err(Error::io("read", &file.path))?;
            let modified = modified.unwrap_or_default();
            if let Some(known) = self.files.get(&path)
                && known.bytes == metadata.len()
                && known.modified == modified.as_nanos()
            {
                digests.push(known.digest.clone());
                done += metadata.len();
                continue;
            }
            let digest = digest_file(&file.path, &mut |bytes| {
                done += bytes;
                reporter.report(Phase::Digesting, &source.dataset, done, total)
            })?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if now.saturating_sub(modified) > SETTLED_AFTER {
                let remembered =
                    Remembered { bytes: metadata.len(), modified: modified.as_nanos(), digest: digest.clone() };
                self.files.insert(path, remembered);
                self.is_changed = true;
            }
            digests.push(digest);
        }
        Ok(digests)
    }
}

const FILE: &str = "sources.json";

fn digest_file(path: &Path, report: &mut dyn FnMut(u64) -> Result<()>) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&buffer[..count]);
        report(count as u64)?;
    }
}

/// A digest of what `key` says, 32 hexadecimal digits: the name of a folder.
pub(crate) fn digest_of(key: &impl Serialize) -> Result<String> {
    let bytes = serde_json::to_vec(key).map_err(|error| Error::io("digest", Path::new("the request"))(error.into()))?;
    Ok(blake3::hash(&bytes).to_hex()[..32].to_owned())
}
