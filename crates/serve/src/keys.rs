//! Who may ask.

use std::path::Path;

use crate::error::{Error, Result};
use crate::openai::ApiError;

/// The keys of which one has to be shown, if there are any.
///
/// Only their hashes are kept. A hash is compared with all of them, each in the same time wherever they differ, so that how long a
/// refusal takes says nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiKeys {
    hashes: Vec<blake3::Hash>,
}

impl ApiKeys {
    /// Reads a file of keys, one a line; what follows a `#` at a line's beginning is a comment.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let hashes: Vec<_> = lines.map(|key| blake3::hash(key.as_bytes())).collect();
        if hashes.is_empty() {
            // A server that nobody can ask, or everybody, is not what somebody wants who names a file of keys.
            return Err(Error::malformed(path, "there is no key in it; write one a line"));
        }
        Ok(Self { hashes })
    }

    /// Whether what the header `Authorization` says may ask.
    pub(crate) fn check(&self, authorization: Option<&[u8]>) -> Result<(), ApiError> {
        if self.hashes.is_empty() {
            return Ok(());
        }
        let Some(shown) = authorization.and_then(bearer) else {
            return Err(ApiError::unauthorized("give an API key: `Authorization: Bearer KEY`"));
        };
        let shown = blake3::hash(shown);
        // No short cut. Comparing hashes takes the same time wherever they differ.
        let matches = self.hashes.iter().fold(false, |found, hash| found | (*hash == shown));
        if matches { Ok(()) } else { Err(ApiError::unauthorized("the API key is not known")) }
    }
}

fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = authorization.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_keys_has_to_be_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "# ours\n\n first \nsecond\n").unwrap();
        let keys = ApiKeys::read(&path).unwrap();
        let check = |header: &str| keys.check(Some(header.as_bytes())).is_ok();
        assert!(check("Bearer first") && check("bearer second"));
        assert!(!check("Bearer third") && !check("Bearer ") && !check("first") && !check("Basic first"));
        assert!(!check("Bearer # ours") && keys.check(None).is_err());
        assert!(ApiKeys::default().check(None).is_ok());
        std::fs::write(&path, "# none\n").unwrap();
        assert!(ApiKeys::read(&path).is_err());
    }
}
