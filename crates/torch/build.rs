//! Compiles the C++ shim against the headers of the libtorch that `LIBTORCH` names.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = env::var_os("LIBTORCH").map_or_else(|| PathBuf::from("/usr"), PathBuf::from);

    // The CPU kernels are compiled once for each instruction set and chosen at run time, as libtorch does with its own.
    // They include nothing with inline functions, so that no code for a newer CPU can leak into the rest.
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        kernels("kernels_default", &[]);
        kernels("kernels_avx2", &["-mavx2", "-mfma"]);
        let avx512 =
            ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mprefer-vector-width=512"];
        kernels("kernels_avx512", &avx512);
    } else {
        kernels("kernels_default", &[]);
    }
    shim(&libtorch);
}

fn kernels(namespace: &str, flags: &[&str]) {
    let mut build = cc::Build::new();
    build.cpp(true).pic(true).std("c++17").opt_level(3).define("KERNELS", namespace);
    for flag in ["-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"].iter().chain(flags) {
        build.flag(flag);
    }
    build.files(["cpp/kernels.cpp", "cpp/attention.cpp", "cpp/cache.cpp"]).compile(namespace);
}

fn shim(libtorch: &Path) {
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .std("c++17")
        .opt_level(1)
        // at::parallel_for is inline, and a plain loop without it.
        .flag("-fopenmp")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .flag("-Wno-unused-parameter")
        .files([
            "cpp/attention_operator.cpp",
            "cpp/autograd.cpp",
            "cpp/cache_operator.cpp",
            "cpp/operators.cpp",
            "cpp/profiler.cpp",
            "cpp/runtime.cpp",
        ])
        .compile("palimpsest_shim");
}
