//! Writing that is whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Error, Result};

const BUFFER: usize = 1 << 18;

/// Writes `bytes` to `path`, replacing what was there: a reader sees the old file or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_with(path, |file| file.write_all(bytes))
}

/// Writes what `write` writes to `path`, replacing what was there: a reader sees the old file or the new one. Where it
/// fails the old one stays, and nothing is left beside it.
pub fn write_atomically_with(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    give_name(write_beside(path, write)?, path)
}

/// Gives a file that was written beside `path` that name.
pub(crate) fn give_name(temporary: NamedTempFile, path: &Path) -> Result<()> {
    temporary.persist(path).map_err(|error| Error::io("write", path, error.error))?;
    sync_folder(&folder_of(path))
}

/// Makes the names in `folder` survive a power failure.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| Error::io("sync", folder, source))
}

/// A synced file beside `path` that vanishes unless it is given that name. Its own name is hidden, so that listings
/// leave it out, and its permissions are an ordinary file's.
pub(crate) fn write_beside(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<NamedTempFile> {
    let folder = folder_of(path);
    fs::create_dir_all(&folder).map_err(|source| Error::io("create", &folder, source))?;
    let failed = |source| Error::io("write", path, source);
    let temporary = tempfile::Builder::new()
        .prefix(".writing-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(&folder)
        .map_err(failed)?;
    let mut writer = BufWriter::with_capacity(BUFFER, temporary.as_file().try_clone().map_err(failed)?);
    let written = write(&mut writer).and_then(|()| writer.flush());
    // What could not be written is not tried again when the buffer is dropped.
    let (file, _) = writer.into_parts();
    written.and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(temporary)
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_its_folder_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/state.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(path.parent().unwrap()), ["state.json"]);
        let ordinary = folder.path().join("ordinary");
        fs::write(&ordinary, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomically(&path, b"one").unwrap();
        let error = write_atomically_with(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("interrupted"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}: interrupted", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["state.json"]);
    }

    #[test]
    fn a_full_device_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_atomically(&path, b"one").unwrap();
        let error = write_atomically_with(&path, |_| File::create("/dev/full")?.write_all(&[0; 4096])).unwrap_err();
        assert!(error.is_disk_full());
        let sentence = format!(
            "the disk is full while writing {}; make room and run again: what was there is intact",
            path.display()
        );
        assert_eq!(error.to_string(), sentence);
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }
}
