//! SHA-256 of files, in a stream.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// `sha256:` and the hexadecimal digest of the file at `path`.
pub fn sha256_file(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    let mut hasher = Sha256::new();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    io::copy(&mut reader, &mut hasher).map_err(|source| Error::io("read", path, source))?;
    Ok(format_digest(hasher))
}

/// `sha256:` and the hexadecimal digest of `bytes`.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(bytes);
    format_digest(hasher)
}

fn format_digest(hasher: Sha256) -> String {
    let hexadecimal: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hexadecimal}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standards_examples() {
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_bytes(b"abc"), abc);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("million");
        std::fs::write(&path, vec![b'a'; 1_000_000]).unwrap();
        let million = "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(sha256_file(&path).unwrap(), million);
        assert!(matches!(sha256_file(&folder.path().join("absent")), Err(Error::NotFound { .. })));
    }
}
