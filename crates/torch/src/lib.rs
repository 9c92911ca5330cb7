//! The only unsafe crate: what tch lacks, as a small C++ shim over libtorch.
