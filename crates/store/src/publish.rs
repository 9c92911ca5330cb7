//! A folder that appears whole: written beside its place, synced, then renamed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::write::folder_of;
use crate::{Error, Result, sync_folder};

/// What a folder's hidden name ends in while it is written.
const WRITING: &str = "writing";

/// An empty folder beside `target` to write into before [`publish_folder`]. What an earlier run left there is removed:
/// its name is hidden and belongs to us alone.
pub fn staging_folder(target: &Path) -> Result<PathBuf> {
    let staging = beside(target, WRITING);
    remove(&staging)?;
    fs::create_dir_all(&staging).map_err(|source| Error::io("create", &staging, source))?;
    Ok(staging)
}

/// The same for one of several attempts that may not know of each other yet: each writes into a folder of its own. What
/// older attempts left there is removed; what a newer one writes is left alone.
pub fn staging_folder_of_attempt(target: &Path, attempt: u64) -> Result<PathBuf> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    remove_abandoned(&folder_of(target), &format!("{name}.{WRITING}"), attempt)?;
    let staging = place_of_attempt(target, attempt);
    fs::create_dir_all(&staging).map_err(|source| Error::io("create", &staging, source))?;
    Ok(staging)
}

/// Removes what attempts up to `attempt` were still writing in `folder`: hidden folders whose name begins with a dot and `prefix`. Whoever
/// calls this may be over itself without knowing, so what newer attempts write is left alone.
pub fn remove_abandoned(folder: &Path, prefix: &str, attempt: u64) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::io("read", folder, source)),
    };
    for entry in entries {
        let path = entry.map_err(|source| Error::io("read", folder, source))?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_prefix('.'));
        let Some((_, owner)) = name.filter(|name| name.starts_with(prefix)).and_then(|name| name.rsplit_once(WRITING))
        else {
            continue;
        };
        let owner = owner.strip_prefix('-').and_then(|number| number.parse::<u64>().ok());
        if owner.is_none_or(|owner| owner <= attempt) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Gives `staging` the name `target`. What is there already is an error, unless `replace`: then it is exchanged for the
/// new folder in one step where the file system can do that, and removed afterwards. An empty folder counts as nothing.
pub fn publish_folder(staging: &Path, target: &Path, replace: bool) -> Result<()> {
    sync_recursively(staging)?;
    give_place(staging, target, replace)
}

/// [`publish_folder`] of what is on the disk already.
pub(crate) fn give_place(staging: &Path, target: &Path, replace: bool) -> Result<()> {
    let failed = |source: io::Error| Error::io("publish", target, source);
    match fs::rename(staging, target) {
        Ok(()) => return sync_folder(&folder_of(target)),
        Err(error) if !matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory) => {
            // Some file systems say only that something exists.
            if !target.exists() {
                return Err(failed(error));
            }
        }
        Err(_) => {}
    }
    if !replace {
        return Err(Error::Exists { path: target.to_owned() });
    }
    let old = match renameat_with(CWD, staging, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => staging.to_owned(),
        Err(_) => {
            let old = beside(target, "replaced");
            remove(&old)?;
            fs::rename(target, &old).map_err(failed)?;
            fs::rename(staging, target).map_err(failed)?;
            old
        }
    };
    sync_folder(&folder_of(target))?;
    remove(&old)
}

/// The hidden place beside `target` that belongs to one attempt alone.
pub(crate) fn place_of_attempt(target: &Path, attempt: u64) -> PathBuf {
    beside(target, &format!("{WRITING}-{attempt}"))
}

/// `.NAME.SUFFIX` in the same folder, and so on the same file system.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    folder_of(target).join(format!(".{name}.{suffix}"))
}

/// Removes a folder or a file, whether it is there or not: another attempt may be clearing up the same.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, source)),
        _ => Ok(()),
    }
}

pub(crate) fn sync_recursively(folder: &Path) -> Result<()> {
    for item in fs::read_dir(folder).map_err(|source| Error::io("read", folder, source))? {
        let path = item.map_err(|source| Error::io("read", folder, source))?.path();
        if path.is_dir() {
            sync_recursively(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(|source| Error::io("write", &path, source))?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_staged(target: &Path, content: &str) -> PathBuf {
        let staging = staging_folder(target).unwrap();
        fs::create_dir(staging.join("sub")).unwrap();
        fs::write(staging.join("sub/file"), content).unwrap();
        staging
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_folder_appears_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        let abandoned = mk_staged(&target, "abandoned");
        fs::write(abandoned.join("other"), "").unwrap();
        publish_folder(&mk_staged(&target, "new"), &target, false).unwrap();
        assert_eq!(fs::read_to_string(target.join("sub/file")).unwrap(), "new");
        assert_eq!(names(&target), ["sub"]);
        assert_eq!(names(folder.path()), ["model"]);
    }

    #[test]
    fn each_attempt_writes_into_a_folder_of_its_own_and_the_next_one_clears_up() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("step-4");
        let first = staging_folder_of_attempt(&target, 1).unwrap();
        fs::write(first.join("file"), "").unwrap();
        let other = staging_folder_of_attempt(&folder.path().join("step-5"), 1).unwrap();
        let second = staging_folder_of_attempt(&target, 2).unwrap();
        assert!(first != second && !first.exists() && other.exists());
        // One that is over and does not know it yet.
        let late = staging_folder_of_attempt(&target, 1).unwrap();
        assert!(second.exists() && late.exists());
        remove_abandoned(folder.path(), "step-", 1).unwrap();
        assert!(second.exists() && !late.exists() && !other.exists());
        remove_abandoned(folder.path(), "step-", 2).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn an_existing_one_stays_unless_it_is_to_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        publish_folder(&mk_staged(&target, "old"), &target, false).unwrap();
        let staging = mk_staged(&target, "new");
        let error = publish_folder(&staging, &target, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} exists already; remove it or choose another place", target.display())
        );
        assert_eq!(fs::read_to_string(target.join("sub/file")).unwrap(), "old");
        publish_folder(&staging, &target, true).unwrap();
        assert_eq!(fs::read_to_string(target.join("sub/file")).unwrap(), "new");
        assert_eq!(names(folder.path()), ["model"]);
    }

    #[test]
    fn a_file_in_the_way_counts_as_something_and_an_empty_folder_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        fs::write(&target, "precious").unwrap();
        let error = publish_folder(&mk_staged(&target, "new"), &target, false).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        fs::remove_file(&target).unwrap();
        fs::create_dir(&target).unwrap();
        publish_folder(&mk_staged(&target, "new"), &target, false).unwrap();
        assert_eq!(names(&target), ["sub"]);
    }
}
