//! A disk that is really full: a tmpfs of one megabyte, where the system lets us mount one.

use std::fs;
use std::path::Path;
use std::process::Command;

use palimpsest_store::{Error, create_exclusively, write_atomically};

/// A small file system that is gone with the value.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let Some(disk) = SmallDisk::mount() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "a tmpfs cannot be mounted");
        eprintln!("skipped: mounting a tmpfs is not allowed here; write.rs has a test with /dev/full");
        return;
    };
    let path = disk.path().join("model.safetensors");
    write_atomically(&path, &[1; 400_000]).unwrap();
    let error = write_atomically(&path, &[2; 900_000]).unwrap_err();
    assert!(matches!(&error, Error::DiskFull { path: named } if *named == path), "{error}");
    assert_eq!(fs::read(&path).unwrap(), vec![1; 400_000]);
    assert!(create_exclusively(&disk.path().join("manifest.json"), &[3; 900_000]).unwrap_err().is_disk_full());
    // Nothing of the attempts is left to fill the disk.
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1);
    write_atomically(&path, &[4; 400_000]).unwrap();
}
