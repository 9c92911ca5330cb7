//! Single safetensors files, as <https://github.com/huggingface/safetensors> defines them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use palimpsest_torch::copy_elements;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// A file's bytes, mapped into memory, and what they hold.
pub(super) struct TensorFile<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl<'a> TensorFile<'a> {
    /// Checks the whole header: a file that is cut short or malformed is refused here.
    pub(super) fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| {
            Error::weights(path, format!("is not a whole safetensors file ({error}); fetch it again"))
        })?;
        Ok(Self { path, tensors })
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.tensors.names()
    }

    /// A tensor's size.
    pub(super) fn size(&self, name: &str) -> Result<Vec<i64>> {
        Ok(size_of(&self.view(name)?))
    }

    /// A copy of a tensor in the kind it is stored in.
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let (view, kind) = self.typed(name)?;
        let tensor = Tensor::f_empty(size_of(&view), (kind, Device::Cpu))?;
        copy_elements(&tensor, view.data(), kind)?;
        Ok(tensor)
    }

    /// Copies a tensor from the mapped file into one of its size and of any kind.
    pub(super) fn copy_into(&self, name: &str, target: &Tensor) -> Result<()> {
        let (view, kind) = self.typed(name)?;
        Ok(copy_elements(target, view.data(), kind)?)
    }

    fn typed(&self, name: &str) -> Result<(TensorView<'a>, Kind)> {
        let view = self.view(name)?;
        let Some(kind) = kind_of(view.dtype()) else {
            let dtype = view.dtype();
            return Err(Error::weights(self.path, format!("{name} is of type {dtype:?}, which is not supported")));
        };
        let elements: i64 = size_of(&view).iter().product();
        if view.data().len() != elements as usize * kind.elt_size_in_bytes() {
            return Err(Error::weights(self.path, format!("{name} has not as many bytes as its shape says")));
        }
        Ok((view, kind))
    }

    fn view(&self, name: &str) -> Result<TensorView<'a>> {
        self.tensors.tensor(name).map_err(|_| Error::weights(self.path, format!("{name} is missing")))
    }
}

fn size_of(view: &TensorView<'_>) -> Vec<i64> {
    view.shape().iter().map(|size| *size as i64).collect()
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F16 => Kind::Half,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Double => Dtype::F64,
        Kind::Float => Dtype::F32,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Int16 => Dtype::I16,
        Kind::Int8 => Dtype::I8,
        Kind::Uint8 => Dtype::U8,
        Kind::Bool => Dtype::BOOL,
        _ => return None,
    })
}

/// Reads all tensors of a safetensors file, on the CPU, by name in alphabetical order.
pub fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let bytes = palimpsest_torch::map_file(path).map_err(Error::io(path))?;
    let file = TensorFile::parse(path, &bytes)?;
    let mut names = file.names();
    names.sort_unstable();
    names.into_iter().map(|name| Ok((name.to_owned(), file.tensor(name)?))).collect()
}

/// Writes tensors to a safetensors file, one after the other, each as a copy in its own kind, and waits until the disk has
/// them.
pub fn write_tensors<N: AsRef<str>, T: AsRef<Tensor>>(path: &Path, tensors: &[(N, T)]) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_ref(), Stored::of(path, name.as_ref(), tensor.as_ref(), None)?)));
    write_views(path, views.collect::<Result<_>>()?)
}

/// A tensor on its way into a file; its bytes are copied only when their turn comes.
pub(super) struct Stored<'a> {
    tensor: &'a Tensor,
    kind: Kind,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl<'a> Stored<'a> {
    /// The tensor, cast to `kind` where one is given.
    pub(super) fn of(path: &Path, name: &str, tensor: &'a Tensor, kind: Option<Kind>) -> Result<Self> {
        let kind = kind.unwrap_or(tensor.kind());
        let Some(dtype) = dtype_of(kind) else {
            return Err(Error::weights(path, format!("{name} is of kind {kind:?}, which cannot be written")));
        };
        let shape = tensor.size().iter().map(|size| *size as usize).collect();
        Ok(Self { tensor, kind, dtype, shape })
    }

    pub(super) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.kind.elt_size_in_bytes()
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.detach().to_kind(self.kind).to_device(tch::Device::Cpu).contiguous();
        let mut bytes = vec![0; self.bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes()
    }
}

/// Writes a file as transformers' own: tensors in alphabetical order, the format `pt`.
pub(super) fn write_views(path: &Path, views: Vec<(&str, Stored<'_>)>) -> Result<()> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // safetensors leaves a file that its owner alone may read: it gets the permissions of an ordinary one.
    let ordinary = std::fs::File::create(path).and_then(|file| file.metadata()).map_err(Error::io(path))?.permissions();
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(source) => Error::Io { path: path.to_owned(), source },
        other => Error::weights(path, format!("cannot be written: {other}")),
    })?;
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    file.set_permissions(ordinary).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}
