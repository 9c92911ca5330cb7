#!/usr/bin/env bash
# Brings libtorch for the CPU from the torch wheel and links ./.libtorch to it. Does nothing when it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
version=2.11.0
cache=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}
folder=$cache/libtorch-$version-cpu

if [ ! -e "$folder/complete" ]; then
    echo "libtorch $version: downloading the torch wheel (530 MB) to $cache"
    mkdir -p "$cache/wheels"
    rm -rf "$folder"
    python3 -m pip download --quiet --no-deps --dest "$cache/wheels" \
        torch==$version nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
    mkdir -p "$folder"
    python3 scripts/unpack_libtorch.py "$cache/wheels" "$folder" $version
    # The wheel's own libtorch.so pulls in CUDA: this one stands in its place and names the CPU libraries alone.
    gcc -shared -o "$folder/lib/libtorch.so" -Wl,--no-as-needed -L"$folder/lib" -l:libtorch_cpu.so -l:libc10.so \
        -Wl,-rpath,'$ORIGIN' -Wl,--allow-shlib-undefined
    touch "$folder/complete"
fi
ln -sfn "$folder" .libtorch
