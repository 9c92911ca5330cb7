#!/usr/bin/env bash
# Checks licences, bans and sources of all dependencies; advisories need a network and are left to people who have one.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}
version=0.20.2
if ! "$cache/tools/bin/cargo-deny" --version 2>/dev/null | grep -qF "$version"; then
    cargo install --quiet --locked --root "$cache/tools" cargo-deny --version "$version"
fi
"$cache/tools/bin/cargo-deny" --all-features check licenses bans sources
