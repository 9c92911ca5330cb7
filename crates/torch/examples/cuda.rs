//! A program that calls the shim and tch's CUDA side; `scripts/cuda-check.sh` links it against libtorch_cuda.
//!
//! On a machine with a GPU it runs there, elsewhere on the CPU.

#![allow(clippy::unwrap_used, reason = "an example fails by panicking")]

use palimpsest_torch::{rms_norm, swiglu, version};
use tch::{Cuda, Device, Kind, Tensor};

fn main() {
    let device = Device::cuda_if_available();
    println!("libtorch {}, {} CUDA devices, computing on {device:?}", version(), Cuda::device_count());
    let x = Tensor::randn([4, 64], (Kind::Float, device));
    let (normed, _) = rms_norm(&x, &Tensor::ones([64], (Kind::Float, device)), 1e-6).unwrap();
    println!("{:?}", swiglu(&normed).unwrap().size());
}
