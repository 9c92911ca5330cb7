#!/usr/bin/env bash
# Builds llama.cpp's server, a peer of `bench/run.py serving`, and writes SmolLM2-135M's weights, float32, as it reads them. Prints
# the folder of both: $PALIMPSEST_CACHE/llama-server-VERSION. Nothing is done where they are there already. Takes CMake, Ninja
# and a C++ compiler, and a quarter of an hour on two cores.
set -euo pipefail
version=0.3.36
cache=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}
folder=$cache/llama-server-$version
model=$cache/data/models/smollm2-135m
python=$cache/venv/bin/python

if [ ! -e "$folder/smollm2-135m.gguf" ]; then
    for program in cmake ninja c++; do
        command -v $program >/dev/null || { echo "llama_server: $program is not in the PATH; install it" >&2; exit 1; }
    done
    [ -e "$model/config.json" ] || { echo "llama_server: there is no $model; scripts/smollm2.sh makes it" >&2; exit 1; }
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # The package carries the source; its own build is not wanted.
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet scikit-build-core
    "$work/venv/bin/pip" download --quiet --no-deps --no-build-isolation --no-binary :all: --dest "$work" \
        "llama-cpp-python==$version" >&2
    tar xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"
    source=$work/llama_cpp_python-$version/vendor/llama.cpp
    {
        cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
            -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
        cmake --build "$work/build" --target llama-server
        "$python" "$source/convert_hf_to_gguf.py" "$model" --outtype f32 --outfile "$work/smollm2-135m.gguf"
    } >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
    mkdir -p "$folder"
    mv "$work/build/bin/llama-server" "$folder/"
    mv "$work/smollm2-135m.gguf" "$folder/"
fi
echo "$folder"
