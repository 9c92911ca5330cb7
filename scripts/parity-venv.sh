#!/usr/bin/env bash
# Makes the Python environment that the parity tests compare with. Does nothing when it is there already.
set -euo pipefail
cache=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}
venv=$cache/venv
requirements=$(cd "$(dirname "$0")/.." && pwd)/tests/parity/requirements.txt

if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    echo "parity environment: installing PyTorch and transformers (4.9 GB) into $venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --find-links "$cache/wheels" --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi
