#!/usr/bin/env bash
# Unpacks the real data that some tests compare with from ../shared/data into
# ${PALIMPSEST_CACHE:-~/.cache/palimpsest}/data/{corpus,eval,tokenizers,models} and prints that folder. Run again, it only
# unpacks archives that have changed. Without the archives it says so and the tests skip; with CI=true it fails.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
source=${PALIMPSEST_SHARED_DATA:-$root/../shared/data}
data=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}/data
names=(corpus eval tokenizers models)

missing=()
for name in "${names[@]}"; do
  [ -e "$source/$name.tar.xz" ] || missing+=("$name")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "test-data: ${missing[*]} not found in $source: tests that need them are skipped" >&2
  if [ "${CI:-}" = true ]; then
    echo "test-data: with CI=true that is a failure; put the archives there, or set PALIMPSEST_SHARED_DATA" >&2
    exit 1
  fi
fi

mkdir -p "$data"
# Two at once would unpack into each other.
exec 9>"$data/.lock"
flock 9
for name in "${names[@]}"; do
  archive=$source/$name.tar.xz
  [ -e "$archive" ] || continue
  stamp=$(stat -c '%s %Y' "$archive")
  if [ -d "$data/$name" ] && [ "$(cat "$data/.$name.stamp" 2>/dev/null)" = "$stamp" ]; then
    continue
  fi
  echo "test-data: unpacking $name" >&2
  unpacked=$data/.$name.unpacking
  rm -rf "$unpacked"
  mkdir "$unpacked"
  tar -C "$unpacked" -xJf "$archive"
  rm -rf "${data:?}/$name"
  mv "$unpacked/$name" "$data/$name"
  rm -rf "$unpacked"
  echo "$stamp" >"$data/.$name.stamp"
done
echo "$data"
