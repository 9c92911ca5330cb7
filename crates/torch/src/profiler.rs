//! libtorch's profiler: what every thread, and a GPU, did for a while.

use std::ffi::CString;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null;

use tch::Device;

use crate::ffi::{self, check};
use crate::{Error, Result};

/// A recording that is under way. There is one at a time in a process, and it ends on the thread that it began on.
#[derive(Debug)]
#[must_use = "a recording that is dropped is thrown away"]
pub struct Profiler {
    is_over: bool,
    thread: PhantomData<*const ()>,
}

impl Profiler {
    /// Begins to record operators with their shapes, [`Span`](crate::Span)s and memory; on a CUDA device its kernels, too.
    pub fn begin(device: Device) -> Result<Self> {
        // SAFETY: a plain flag.
        unsafe { check(ffi::palimpsest_profiler_begin(device.is_cuda()))? };
        Ok(Self { is_over: false, thread: PhantomData })
    }

    /// Ends it, and writes a trace that chrome://tracing and Perfetto show.
    pub fn save(mut self, path: &Path) -> Result<()> {
        self.is_over = true;
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Error(format!("the path {} holds a NUL byte", path.display())))?;
        // SAFETY: a NUL-terminated string that outlives the call.
        unsafe { check(ffi::palimpsest_profiler_end(name.as_ptr())) }
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        if !self.is_over {
            // SAFETY: null means that nothing is to be written.
            drop(unsafe { check(ffi::palimpsest_profiler_end(null())) });
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;
    use crate::Span;

    #[test]
    fn a_trace_holds_operators_and_spans_of_its_time_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let x = Tensor::ones([8, 16], (Kind::Float, Device::Cpu));
        drop(Profiler::begin(Device::Cpu).unwrap());
        let profiler = Profiler::begin(Device::Cpu).unwrap();
        let span = Span::begin(c"ours");
        let _ = x.matmul(&x.tr());
        let _ = span.end();
        profiler.save(&path).unwrap();
        let _ = x.sigmoid();
        let trace = std::fs::read_to_string(&path).unwrap();
        for part in ["\"aten::mm\"", "\"ours\"", "[8, 16]"] {
            assert!(trace.contains(part), "{part} is not in {trace}");
        }
        assert!(!trace.contains("aten::sigmoid"), "{trace}");
    }
}
