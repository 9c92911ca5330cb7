#!/usr/bin/env bash
# Generates a line of each language with the model that the demo trained.
set -euo pipefail
model=$1
bin=$(dirname "$0")/../target/debug
for prompt in "The captain looked at the sea and" "这个函数返回"; do
    echo
    "$bin/palimpsest" generate --model "$model" --prompt "$prompt" --max-new-tokens 40 --temperature 0.3 --top-k 50 --top-p 0.95 --seed 7
done
