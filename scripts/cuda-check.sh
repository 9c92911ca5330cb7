#!/usr/bin/env bash
# Links what we build against the torch wheel's CUDA libraries and checks that every symbol is found. No GPU is needed. The
# worker names libtorch_cpu alone and takes up CUDA where `libtorch.so` brings it; a small program is linked against
# libtorch_cuda itself.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}
packages=$("$cache/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
wheel=$packages/torch/lib
if [ ! -e "$wheel/libtorch_cuda.so" ]; then
    echo "$wheel holds no libtorch_cuda.so: scripts/parity-venv.sh brings it" >&2
    exit 1
fi
libraries=$wheel:$(printf '%s:' "$packages"/nvidia/*/lib)

# The CUDA side of a version must be that of the headers and CPU library that we compile with.
torch_version() { awk "/define TORCH_VERSION_(MAJOR|MINOR|PATCH)/ {printf \"%s.\", \$3}" "$1/include/torch/headeronly/version.h" | sed 's/\.$//'; }
version=$(torch_version .libtorch)
theirs=$(torch_version "$packages/torch")
[ "$version" = "$theirs" ] || { echo "libtorch is $version, the CUDA wheel $theirs" >&2; exit 1; }

program=target/debug/examples/cuda
cargo rustc --quiet --package palimpsest-torch --example cuda -- \
    -C link-arg=-Wl,--no-as-needed -C "link-arg=-L$wheel" -C link-arg=-l:libtorch_cuda.so -C link-arg=-l:libc10_cuda.so \
    -C "link-arg=-Wl,-rpath-link,$libraries"

check() {
    local found
    found=$(LD_LIBRARY_PATH=$libraries LD_PRELOAD=${2:-} ldd -r "$1" 2>&1)
    if grep -E 'not found|undefined symbol' <<<"$found"; then
        echo "$1 cannot be linked against $wheel" >&2
        exit 1
    fi
    grep -q "$wheel/libtorch_cuda.so" <<<"$found" || { echo "$1 does not take up libtorch_cuda" >&2; exit 1; }
    echo "$1: every symbol found in libtorch $version with CUDA"
}
check "$program"
readelf -d "$program" | grep -q 'NEEDED.*libtorch_cuda.so' || { echo "$program does not name libtorch_cuda" >&2; exit 1; }
if [ -e target/debug/palimpsest-worker ]; then
    check target/debug/palimpsest-worker "$wheel/libtorch_cuda.so"
fi
