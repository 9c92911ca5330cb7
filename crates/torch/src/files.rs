//! Files as memory.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file, read from the disk where and when they are looked at.
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a file into memory. As with every mapping, a program that cuts the file short meanwhile makes ours stop with
/// SIGBUS; nobody should write to a model in place.
pub fn map_file(path: &Path) -> io::Result<MappedFile> {
    let file = File::open(path)?;
    // SAFETY: the mapping is private and read-only; that nobody changes the file meanwhile is what its format and our own
    // writers (which rename whole files into place) stand for.
    unsafe { memmap2::Mmap::map(&file) }.map(MappedFile)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_is_mapped() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(*super::map_file(&path).unwrap(), *std::fs::read(&path).unwrap());
        assert!(super::map_file(std::path::Path::new("/nowhere")).is_err());
    }
}
