//! A named stretch of the host's time: measured always, and shown by libtorch's profiler while that runs.

use std::ffi::CStr;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use crate::ffi;

/// A stretch that is under way. On CUDA it covers the launches of kernels, and waits for the device only where a value is
/// read back.
#[derive(Debug)]
#[must_use = "a span ends where it is dropped"]
pub struct Span {
    began: Instant,
    /// The profiler's own record of it; null where nothing is profiled.
    range: ffi::Range,
}

impl Span {
    /// Begins here, under a name.
    pub fn begin(name: &'static CStr) -> Self {
        let mut range = null_mut();
        // SAFETY: a constant string, and a place to write a pointer to. Where it fails there is no range to end.
        drop(unsafe { ffi::check(ffi::palimpsest_range_begin(name.as_ptr(), &mut range)) });
        Self { began: Instant::now(), range }
    }

    /// Ends here; gives how long it was.
    pub fn end(self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // SAFETY: null or a range that was begun on this thread, for a raw pointer is not `Send`, and is ended only here.
        unsafe { ffi::palimpsest_range_end(self.range) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Span;

    #[test]
    fn a_span_is_as_long_as_what_it_covers() {
        let outer = Span::begin(c"outer");
        let inner = Span::begin(c"inner");
        std::thread::sleep(Duration::from_millis(2));
        let inner = inner.end();
        assert!(inner >= Duration::from_millis(2) && outer.end() >= inner);
    }
}
