//! Memory figures of the host and of devices.

use std::ffi::c_int;

use tch::Device;

use crate::ffi::{self, check};
use crate::{Error, Result};

/// The process's own memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// Resident now.
    pub resident: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

/// What the caching allocator of a device holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In tensors now.
    pub allocated: u64,
    /// The most that was in tensors since [`reset_device_peak`].
    pub peak: u64,
    /// Taken from the device, cached or in use.
    pub reserved: u64,
}

/// The process's memory as the kernel tells it; `None` where it does not (other systems than Linux).
pub fn host_memory() -> Option<HostMemory> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    };
    Some(HostMemory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// Starts a new measurement of [`HostMemory::peak`]; nothing where the kernel has no such thing.
pub fn reset_host_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The figures of a CUDA device; `None` for the CPU, whose figures are [`host_memory`]'s.
pub fn device_memory(device: Device) -> Result<Option<DeviceMemory>> {
    let Some((kind, index)) = device_index(device)? else { return Ok(None) };
    let (mut allocated, mut peak, mut reserved) = (0, 0, 0);
    // SAFETY: three places to write numbers to.
    unsafe { check(ffi::palimpsest_device_memory(kind, index, &mut allocated, &mut peak, &mut reserved))? };
    let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Some(DeviceMemory { allocated: bytes(allocated), peak: bytes(peak), reserved: bytes(reserved) }))
}

/// Starts a new measurement of [`DeviceMemory::peak`]; nothing on the CPU.
pub fn reset_device_peak(device: Device) -> Result<()> {
    let Some((kind, index)) = device_index(device)? else { return Ok(()) };
    // SAFETY: plain numbers.
    unsafe { check(ffi::palimpsest_reset_device_peak(kind, index)) }
}

/// c10's number for the kind of device, and its index; `None` for the CPU.
fn device_index(device: Device) -> Result<Option<(c_int, c_int)>> {
    const CUDA: c_int = 1;
    match device {
        Device::Cpu => Ok(None),
        Device::Cuda(index) => {
            let index = c_int::try_from(index).map_err(|_| Error(format!("there is no CUDA device {index}")))?;
            Ok(Some((CUDA, index)))
        }
        other => Err(Error(format!("memory figures of {other:?} are not available"))),
    }
}

/// Lets the C library keep freed memory for the next allocation instead of returning it to the system, so that a training
/// step, which takes and frees the same large blocks again and again, is not spent on page faults. Call it once at the
/// start of a process that trains. Does nothing but on Linux with glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_TRIM_THRESHOLD: c_int = -1;
        const M_MMAP_THRESHOLD: c_int = -3;
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // SAFETY: glibc's mallopt takes any values of these parameters and is called before threads allocate much.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, 1 << 30);
            mallopt(M_TRIM_THRESHOLD, c_int::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::{device_memory, host_memory};

    #[test]
    fn memory_is_measured() {
        let memory = host_memory().unwrap();
        assert!(memory.resident > 1 << 20 && memory.peak >= memory.resident, "{memory:?}");
        assert_eq!(device_memory(Device::Cpu).unwrap(), None);
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        if !tch::Cuda::is_available() {
            assert!(device_memory(Device::Cuda(0)).is_err());
        }
    }
}
