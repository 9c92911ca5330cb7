//! Files as memory.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use tch::{Device, Kind, Tensor, no_grad};

use crate::{Error, Result};

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

/// Copies the elements that `bytes` hold, contiguous and of kind `kind`, into a tensor of as many, and converts them to its kind.
pub fn copy_elements(target: &Tensor, bytes: &[u8], kind: Kind) -> Result<()> {
    let size = target.size();
    let width = kind.elt_size_in_bytes();
    if bytes.len() != target.numel() * width {
        return Err(Error(format!("{} bytes are no {} elements of kind {kind:?}", bytes.len(), target.numel())));
    }
    let source = if bytes.as_ptr().addr().is_multiple_of(width) {
        // SAFETY: as many bytes as the size says, aligned for the kind; the tensor is read while they are borrowed, and dropped.
        unsafe { Tensor::f_from_blob(bytes.as_ptr(), &size, &contiguous(&size), kind, Device::Cpu)? }
    } else {
        Tensor::f_from_data_size(bytes, &size, kind)?
    };
    Ok(no_grad(|| target.detach().f_copy_(&source))?)
}

/// The strides of a contiguous tensor.
fn contiguous(size: &[i64]) -> Vec<i64> {
    let mut strides: Vec<i64> =
        size.iter().rev().scan(1, |stride, length| Some(std::mem::replace(stride, *stride * length.max(&1)))).collect();
    strides.reverse();
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_copied_and_converted() {
        let stored: Vec<u8> = (0..6).flat_map(|number| (number as f32).to_le_bytes()).collect();
        let expected = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
        let mut shifted = [0; 25];
        shifted[1..].copy_from_slice(&stored);
        for (bytes, kind) in [(&stored[..], Kind::Float), (&shifted[1..], Kind::Double), (&stored[..], Kind::BFloat16)]
        {
            let target = Tensor::zeros([2, 3], (kind, Device::Cpu)).set_requires_grad(true);
            copy_elements(&target, bytes, Kind::Float).unwrap();
            assert_eq!(target, expected.to_kind(kind));
        }
        let error = copy_elements(&expected, &stored[4..], Kind::Float).unwrap_err().to_string();
        assert_eq!(error, "libtorch: 20 bytes are no 6 elements of kind Float");
    }

    #[test]
    fn a_file_is_mapped() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(*super::map_file(&path).unwrap(), *std::fs::read(&path).unwrap());
        assert!(super::map_file(std::path::Path::new("/nowhere")).is_err());
    }
}
