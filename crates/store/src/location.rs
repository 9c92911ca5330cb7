//! From a URI to a place on this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use palimpsest_api::{Scheme, Uri};

use crate::{Error, Result};

/// What URIs mean on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// The folder that relative `file://` paths begin from: the job file's.
    pub base: PathBuf,
    /// The folder of each claim (`--mount NAME=DIR`).
    pub mounts: BTreeMap<String, PathBuf>,
}

/// A URI and where it lies on this machine. Whether something is there is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    uri: String,
    path: PathBuf,
}

impl Location {
    /// Where `uri` lies.
    pub fn parse(uri: &str, mounts: &Mounts) -> Result<Self> {
        let parsed = Uri::parse(uri)?;
        let path = match parsed.scheme() {
            Scheme::File => mounts.base.join(parsed.rest()),
            Scheme::Pvc => {
                let (claim, path) = parsed.split();
                let Some(folder) = mounts.mounts.get(claim) else {
                    return Err(Error::NotMounted { claim: claim.to_owned(), uri: uri.to_owned() });
                };
                // A second slash would make the path absolute, and so leave the claim.
                folder.join(path.trim_start_matches('/'))
            }
            scheme => return Err(Error::Unavailable { scheme, uri: uri.to_owned() }),
        };
        Ok(Self { uri: uri.to_owned(), path: without_dots(&path) })
    }

    /// A place that is known by its path.
    pub fn local(path: &Path) -> Self {
        Self { uri: format!("file://{}", path.display()), path: path.to_owned() }
    }

    /// As the user wrote it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// On this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `name` below it.
    pub fn join(&self, name: &str) -> Self {
        Self { uri: format!("{}/{name}", self.uri.trim_end_matches('/')), path: self.path.join(name) }
    }

    /// Whether something is there.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// A reader of the file. It does no buffering.
    pub fn open(&self) -> Result<File> {
        let file = File::open(&self.path).map_err(|source| self.error("open", source))?;
        // Linux opens a folder and only fails to read it.
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::Io { action: "read", path: self.path.clone(), source });
        }
        Ok(file)
    }

    pub(crate) fn error(&self, action: &'static str, source: std::io::Error) -> Error {
        match Error::io(action, &self.path, source) {
            Error::NotFound { path, .. } => Error::NotFound { uri: Some(self.uri.clone()), path },
            error => error,
        }
    }
}

/// The path without `.`: `..` stays, because a symbolic link may lie before it.
fn without_dots(path: &Path) -> PathBuf {
    let clean: PathBuf = path.components().filter(|component| *component != Component::CurDir).collect();
    if clean.as_os_str().is_empty() { PathBuf::from(".") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_mounts() -> Mounts {
        Mounts {
            base: PathBuf::from("/jobs"),
            mounts: BTreeMap::from([("models".to_owned(), PathBuf::from("/mnt/models"))]),
        }
    }

    #[test]
    fn file_and_pvc_lie_on_this_machine() {
        for (uri, path) in [
            ("file://./corpus", "/jobs/corpus"),
            ("file://corpus/zh.jsonl", "/jobs/corpus/zh.jsonl"),
            ("file://../corpus/", "/jobs/../corpus"),
            ("file:///data/zh", "/data/zh"),
            ("file://.", "/jobs"),
            ("pvc://models/llama", "/mnt/models/llama"),
            ("pvc://models", "/mnt/models"),
            ("pvc://models//etc/passwd", "/mnt/models/etc/passwd"),
        ] {
            let location = Location::parse(uri, &mk_mounts()).unwrap();
            assert_eq!(location.path(), Path::new(path), "{uri}");
            assert_eq!(location.uri(), uri);
        }
        let relative = Location::parse("file://corpus", &Mounts::default()).unwrap();
        assert_eq!(relative.path(), Path::new("corpus"));
    }

    #[test]
    fn other_uris_are_refused_with_the_remedy() {
        for (uri, message) in [
            (
                "s3://corpora/zh",
                "s3:// is not available in this build (\"s3://corpora/zh\"); copy it here and use file:// or pvc://",
            ),
            (
                "http://example.com/zh",
                "the scheme of \"http://example.com/zh\" is unknown; use one of file://, pvc://, s3://, gs://, az://, hf://",
            ),
            ("corpus/zh", "\"corpus/zh\" has no scheme; write \"file://corpus/zh\" if it is a file or folder"),
            ("pvc://data/zh", "the claim \"data\" of \"pvc://data/zh\" is not mounted here; pass --mount data=DIR"),
            ("pvc://models/../secret", "\"pvc://models/../secret\" leads out by \"..\"; write the path that is meant"),
        ] {
            assert_eq!(Location::parse(uri, &mk_mounts()).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn join_extends_both() {
        let location = Location::parse("pvc://models/", &mk_mounts()).unwrap().join("llama");
        assert_eq!((location.uri(), location.path()), ("pvc://models/llama", Path::new("/mnt/models/llama")));
    }

    #[test]
    fn opening_nothing_names_the_uri() {
        let folder = tempfile::tempdir().unwrap();
        let mounts = Mounts { base: folder.path().to_owned(), ..Mounts::default() };
        let absent = Location::parse("file://absent", &mounts).unwrap();
        let expected =
            format!("there is no file or folder {} (\"file://absent\"); check the path", absent.path().display());
        assert_eq!(absent.open().unwrap_err().to_string(), expected);
        let error = Location::parse("file://.", &mounts).unwrap().open().unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
    }
}
