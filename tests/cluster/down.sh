#!/usr/bin/env bash
# Ends clusters that up.sh started, whatever has become of their processes and files, and leaves nothing of them.
#   down.sh             the only one that runs, or the one that $CLUSTER names
#   down.sh NAME...     pal1, pal2 and so on
#   down.sh --orphans   those that outlived the test that owned them
set -euo pipefail
. "$(dirname "$0")/cluster.sh"
. "$here/members.sh"
[ "$(id -u)" = 0 ] || fail "what root started only root ends: run it with sudo"

orphans() {
    local folder owner
    for folder in "$clusters"/pal*/; do
        [ -e "$folder/owner" ] || continue
        owner=$(cat "$folder/owner")
        grep -qz up.sh "/proc/$owner/cmdline" 2>/dev/null || basename "$folder"
    done
}

down() {
    use_cluster "$1"
    # shellcheck disable=SC2119
    end_all
    ip link delete "$cluster" 2>/dev/null || true
    rm -rf "$state"
}

names=("$@")
case ${1:-} in
--orphans)
    mapfile -t names < <(orphans)
    ;;
"")
    [ -n "$(running_clusters)" ] || exit 0
    use_the_cluster
    names=("$cluster")
    ;;
esac
for name in "${names[@]}"; do
    down "$name"
done
