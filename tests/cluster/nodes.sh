# Starts nodes; sourced after members.sh.
# shellcheck shell=bash disable=SC2154

# prepare_node NAME: gives it a disk with the images that there are. Files are linked where the file system can: they are never
# written to, but for the databases.
prepare_node() {
    local disk=$state/$1/containerd template=$cache/cluster-images/template
    mkdir -p "$state/$1"
    (
        flock --shared 9
        cp --archive --link "$template" "$disk" 2>/dev/null || { rm -rf "$disk" && cp --archive "$template" "$disk"; }
        find "$template" -name '*.db' -printf '%P\n' | while read -r database; do
            rm "$disk/$database"
            cp --archive "$template/$database" "$disk/$database"
        done
    ) 9>"$cache/cluster-images/.lock"
}

# boot_node NAME: starts its programs. What they left in memory, or in files that stand for it, is gone.
boot_node() {
    rm -f "$state/$1/containerd.sock"*
    launch "$1" $((10 + ${1#node-})) node.sh "${1#node-}"
}

# await_node NAME SINCE: until it is Ready, as of a time (YYYY-MM-DDTHH:MM:SSZ).
await_node() {
    wait_until 90 ready_since "$1" "$2" || fail "$1 does not get Ready: see $state/logs/kubelet-$1.log"
}
ready_since() {
    local ready heartbeat
    read -r ready heartbeat < <("$state/bin/kubectl" --kubeconfig "$state/kubeconfig" get node "$1" --output \
        jsonpath='{range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{"\n"}{end}')
    [ "$ready" = True ] && [[ ! $heartbeat < $2 ]]
}
now() { date --utc +%Y-%m-%dT%H:%M:%SZ; }
