#!/usr/bin/env bash
# image.sh NAME BINARY...: makes a container image of programs of this machine, and brings it to every node, those of clusters to
# come, too: there is no registry. NAME is like palimpsest.test/worker:1. The first program is the image's entry point; busybox's
# commands are beside it. It runs as the user 65532.
# A node that is off gets nothing: run this again once it is booted.
# A layer that an earlier image has is not made or brought again: where a program alone changed, it takes a second.
set -euo pipefail
. "$(dirname "$0")/cluster.sh"
. "$here/members.sh"
[[ ${1:-} == */*:* ]] || { sed -n 's/^# \{0,1\}//; 2,6p' "$0" >&2; exit 2; }
name=$1
shift
images=$cache/cluster-images
mkdir -p "$images/template"
# The template is a node's containerd folder: every new node begins with a copy.
exec 9>"$images/.lock"
flock 9
layout=$images/$(tr /: -- <<<"$name")
python3 "$here/oci_image.py" make "$images" "$layout" "$name" "$@"

# bring SOCKET: hands an image to a containerd, without the layers that it has.
bring() {
    local has=$layout.has
    timeout 60 ctr --address "$1" --namespace k8s.io content ls --quiet >"$has" &&
        python3 "$here/oci_image.py" pack "$layout" "$has" |
            timeout 300 ctr --address "$1" --namespace k8s.io images import --snapshotter overlayfs - >/dev/null
}

bring_to_template() {
    cmp -s "$layout/index.json" "$layout.brought" && return
    local folder=$images/run containerd
    rm -rf "$folder"
    mkdir -p "$folder"
    # Kubernetes's side of it would hold on to each image that another has replaced.
    sed "s#@folder@/containerd\"#$images/template\"#; s#@folder@#$folder#; s#/run/containerd-state#$folder/state#
        s#^disabled_plugins = \[#&\"io.containerd.grpc.v1.cri\", #" "$here/inside/containerd.toml" >"$folder/containerd.toml"
    # In namespaces of its own, nothing of it is left when it or this script ends.
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child=KILL --mount-proc \
        containerd --config "$folder/containerd.toml" >"$images/containerd.log" 2>&1 </dev/null 9>&- &
    containerd=$!
    wait_until 30 ctr --address "$folder/containerd.sock" version || fail "containerd does not answer: see $images/containerd.log"
    bring "$folder/containerd.sock" || fail "$name cannot be brought to $images/template: see $images/containerd.log"
    kill -TERM "$(pgrep --parent $containerd)"
    wait $containerd || true
    rm -rf "$folder"
    cp "$layout/index.json" "$layout.brought"
}

bring_to_node() {
    wait_until 10 timeout 3 ctr --address "$state/$node/containerd.sock" version && bring "$state/$node/containerd.sock"
}

bring_to_template
for running in $(running_clusters); do
    use_cluster "$running"
    for node in "$state"/node-*/; do
        node=$(basename "$node")
        runs "$node" || continue
        # One that hangs or just ends, as nodes of tests do, is no reason for others to go without.
        bring_to_node || echo "cluster: $node of $cluster does not take $name: thaw it, or see $state/logs/containerd-$node.log" >&2
    done
done
