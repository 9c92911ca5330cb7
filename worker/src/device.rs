//! Which device tensors live on, and how many threads work on it.

use palimpsest_train::{Error, Result};
use tch::Device;

/// `cpu` or `cuda`.
pub(crate) fn parse_device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
        "cuda" => Err(Error::User(
            "--device cuda: there is no CUDA device, or this libtorch has no CUDA; use --device cpu".to_owned(),
        )),
        _ => Err(Error::User(format!("--device {name}: use cpu or cuda"))),
    }
}

/// So many threads, or as many as there are cores.
pub(crate) fn set_threads(threads: Option<usize>) -> Result<()> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Ok(palimpsest_torch::set_threads(threads.unwrap_or_else(cores))?)
}
