//! A folder that appears whole or not at all: it is written beside its place and renamed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// The beginning of the names of folders that are being written.
const PREFIX: &str = ".staging-";

/// What a writer that died has left is removed when it is as old.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A folder that is being written. Dropped before it is published, it is removed.
pub(crate) struct Staging {
    folder: TempDir,
    place: PathBuf,
}

impl Staging {
    /// A folder beside `place`.
    pub(crate) fn beside(place: &Path) -> Result<Self> {
        let parent = place.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        remove_abandoned(parent);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).map_err(Error::io("write", parent))?;
        Ok(Self { folder, place: place.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Syncs the files, writes the manifest after them, and renames the folder to its place. Where another writer was
    /// quicker, its folder stays: both hold the same.
    pub(crate) fn publish(self, name: &str, content: &[u8]) -> Result<()> {
        let folder = self.folder.path();
        for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
            sync(&entry.map_err(Error::io("read", folder))?.path())?;
        }
        let manifest = folder.join(name);
        fs::write(&manifest, content).map_err(Error::io("write", &manifest))?;
        sync(&manifest)?;
        sync(folder)?;
        set_ordinary_permissions(folder).map_err(Error::io("write", folder))?;
        let mut renamed = fs::rename(folder, &self.place);
        if renamed.is_err() && !self.place.join(name).is_file() && self.place.is_dir() {
            // A folder without a manifest is not whole: somebody has taken parts of it away.
            fs::remove_dir_all(&self.place).map_err(Error::io("replace", &self.place))?;
            renamed = fs::rename(folder, &self.place);
        }
        match renamed {
            Ok(()) => {
                // Its place is taken over: there is nothing left to remove.
                let _ = self.folder.keep();
            }
            Err(_) if self.place.join(name).is_file() => {}
            Err(source) => return Err(Error::io("write", &self.place)(source)),
        }
        self.place.parent().map_or(Ok(()), sync)
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// A temporary folder is for its owner alone; prepared data is shared by jobs.
#[cfg(unix)]
fn set_ordinary_permissions(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn set_ordinary_permissions(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_staging = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if is_staging && age.is_some_and(|age| age > ABANDONED_AFTER) {
            tracing::info!(folder = %entry.path().display(), "removing what a preparation that died has left");
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
