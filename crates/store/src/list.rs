//! The files at a location, in an order that is the same on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Location, Result};

/// A file found by [`list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the listed folder, with `/`; the file's own name where a file was listed.
    pub name: String,
    /// Where it lies.
    pub location: Location,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The file at `location`, or all files below the folder there, sorted by the bytes of their names.
///
/// Names that begin with `.` or `_` are left out, as everywhere in this field: they are temporary files and markers
/// (`.part-0.crc`, `_SUCCESS`). Links are followed.
pub fn list(location: &Location) -> Result<Vec<Entry>> {
    let metadata = fs::metadata(location.path()).map_err(|source| location.error("read", source))?;
    if !metadata.is_dir() {
        let name = location.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![Entry { name, location: location.clone(), bytes: metadata.len() }]);
    }
    let mut entries = Vec::new();
    let mut ancestors = Vec::new();
    visit(location, location.path(), "", &mut ancestors, &mut entries)?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn visit(
    root: &Location,
    folder: &Path,
    prefix: &str,
    ancestors: &mut Vec<PathBuf>,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let canonical = folder.canonicalize().map_err(|source| Error::io("read", folder, source))?;
    if ancestors.contains(&canonical) {
        // A link to a folder that it lies in: everything there is listed already.
        return Ok(());
    }
    ancestors.push(canonical);
    for item in fs::read_dir(folder).map_err(|source| Error::io("read", folder, source))? {
        let path = item.map_err(|source| Error::io("read", folder, source))?.path();
        let name = path.file_name().unwrap_or_default();
        let Some(name) = name.to_str() else {
            let source = std::io::Error::other("its name is not UTF-8; rename it");
            return Err(Error::Io { action: "list", path, source });
        };
        if name.starts_with(['.', '_']) {
            continue;
        }
        let relative = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let metadata = fs::metadata(&path).map_err(|source| Error::io("read", &path, source))?;
        if metadata.is_dir() {
            visit(root, &path, &relative, ancestors, entries)?;
        } else if metadata.is_file() {
            entries.push(Entry { location: root.join(&relative), name: relative, bytes: metadata.len() });
        }
    }
    ancestors.pop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn names(path: &Path) -> Vec<String> {
        list(&Location::local(path)).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn a_folder_is_listed_recursively_and_sorted() {
        let folder = mk_folder(&["b.jsonl", "a/2.jsonl", "a/10.jsonl", "a-b.jsonl", "_SUCCESS", "a/.2.crc", ".git/x"]);
        assert_eq!(names(folder.path()), ["a-b.jsonl", "a/10.jsonl", "a/2.jsonl", "b.jsonl"]);
        let entries = list(&Location::local(folder.path())).unwrap();
        assert_eq!(fs::read_to_string(entries[1].location.path()).unwrap(), "a/10.jsonl");
        assert_eq!(entries[1].bytes, 10);
    }

    #[test]
    fn a_file_is_its_own_list_whatever_its_name() {
        let folder = mk_folder(&["_a.jsonl"]);
        assert_eq!(names(&folder.path().join("_a.jsonl")), ["_a.jsonl"]);
    }

    #[test]
    fn links_are_followed_once() {
        let folder = mk_folder(&["a/x.txt"]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/loop")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("a/x.txt"), folder.path().join("y.txt")).unwrap();
        assert_eq!(names(folder.path()), ["a/x.txt", "y.txt"]);
    }

    #[test]
    fn nothing_is_an_error_with_the_uri() {
        let error = list(&Location::local(Path::new("/nowhere/at/all"))).unwrap_err();
        assert!(matches!(error, Error::NotFound { uri: Some(_), .. }), "{error}");
    }
}
