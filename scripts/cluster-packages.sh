#!/usr/bin/env bash
# Installs the Debian packages that a cluster for the tests stands on (tests/cluster/up.sh). Does nothing when they are there.
# Where they cannot be had it says in one sentence what is missing, and fails.
set -euo pipefail
packages=(containerd runc containernetworking-plugins iptables conntrack iproute2 procps busybox python3)

installed() { dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing=()
for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "cluster: the packages ${missing[*]} are missing: run \`sudo apt-get install ${missing[*]}\`" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "cluster: there is no apt-get to install ${missing[*]} with: run on Debian or Ubuntu, or install them by hand" >&2
    exit 1
fi
echo "cluster: installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "cluster: apt-get cannot install ${missing[*]}: mend what it says above" >&2
    exit 1
fi
