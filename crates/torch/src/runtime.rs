//! What the process computes with: threads, determinism, instruction set, libtorch's version.

use std::ffi::{CStr, c_int};
use std::ptr::null_mut;

use crate::ffi::{self, check, take_string};
use crate::{Error, Result};

/// libtorch's version, such as `2.11.0`.
pub fn version() -> String {
    // SAFETY: a constant string.
    unsafe { CStr::from_ptr(ffi::palimpsest_version()) }.to_string_lossy().into_owned()
}

/// The instruction set that libtorch's and our CPU kernels use: `AVX512`, `AVX2`, `DEFAULT` and so on. The environment
/// variable `ATEN_CPU_CAPABILITY` (`avx2`, `default`) lowers it.
pub fn cpu_capability() -> Result<String> {
    let mut name = null_mut();
    // SAFETY: the name, once written, is ours.
    let name = unsafe {
        check(ffi::palimpsest_cpu_capability(&mut name))?;
        take_string(name)
    };
    name.ok_or_else(|| Error("the CPU's capability is unknown".into()))
}

/// Whether matrix products in bfloat16 run on the CPU's own instructions (AVX-512 BF16 or AMX) rather than emulated, which
/// is many times slower than float32.
pub fn cpu_has_bfloat16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::is_x86_feature_detected!("avx512bf16") && cpu_capability().is_ok_and(|name| name == "AVX512")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The number of threads that an operation may use.
pub fn threads() -> usize {
    // SAFETY: no arguments, no pointers.
    usize::try_from(unsafe { ffi::palimpsest_threads() }).unwrap_or(1)
}

/// Sets [`threads`], at least 1. Results on CPU are bit-identical for one number of threads, not across numbers.
pub fn set_threads(threads: usize) -> Result<()> {
    let threads = c_int::try_from(threads.max(1)).map_err(|_| Error(format!("{threads} threads are too many")))?;
    // SAFETY: a plain number.
    unsafe { check(ffi::palimpsest_set_threads(threads)) }
}

/// Makes operations deterministic, or fail where they cannot be.
pub fn set_deterministic(deterministic: bool) -> Result<()> {
    // SAFETY: a plain flag.
    unsafe { check(ffi::palimpsest_set_deterministic(deterministic)) }
}

/// The operators that pass libtorch's dispatcher while `body` runs, on any thread, those that others call included: what
/// its profiler lists. Our own kernels do not pass it. Not to be nested.
pub fn count_operators<T>(body: impl FnOnce() -> T) -> Result<(T, u64)> {
    let mut count = 0;
    // SAFETY: a place to write a number to.
    unsafe { check(ffi::palimpsest_count_operators(true, &mut count))? };
    let result = body();
    // SAFETY: as above.
    unsafe { check(ffi::palimpsest_count_operators(false, &mut count))? };
    Ok((result, count))
}

#[cfg(test)]
mod tests {
    use super::{count_operators, cpu_capability, cpu_has_bfloat16, set_deterministic, set_threads, threads, version};

    #[test]
    fn the_runtime_describes_itself() {
        assert_eq!(version(), "2.11.0");
        let capability = cpu_capability().unwrap();
        assert!(!capability.is_empty());
        assert!(!cpu_has_bfloat16() || capability == "AVX512");
    }

    #[test]
    fn operators_are_counted() {
        let x = tch::Tensor::from_slice(&[1.0f32, 2.0]);
        let (sum, count) = count_operators(|| &x + &x).unwrap();
        assert_eq!(f64::try_from(sum.sum(None)).unwrap(), 6.0);
        assert!(count >= 1);
        assert_eq!(count_operators(|| ()).unwrap().1.min(count), 0, "nothing was done");
    }

    #[test]
    fn threads_can_be_set() {
        let before = threads();
        set_threads(1).unwrap();
        assert_eq!(threads(), 1);
        set_threads(before).unwrap();
        set_deterministic(true).unwrap();
        set_deterministic(false).unwrap();
    }
}
