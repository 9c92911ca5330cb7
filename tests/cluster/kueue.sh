#!/usr/bin/env bash
# Prints the folder of Kueue's definitions, as its Go module publishes them. kueue/go.mod says which version, kueue/go.sum what is in it.
set -euo pipefail
cd "$(dirname "$0")/kueue"
command -v go >/dev/null || { echo "go is not in the PATH: install Go 1.26, which brings Kueue's definitions" >&2; exit 1; }
module=$(go mod download -json sigs.k8s.io/kueue | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
echo "$module/config/components/crd/bases"
