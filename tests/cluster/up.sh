#!/usr/bin/env bash
# A real Kubernetes on this machine: control plane and nodes in namespaces of their own, on a bridge that leads nowhere else.
#   up.sh [NODES]           starts it (1 node where none are given, at most 20) and prints `export KUBECONFIG=...`; down.sh ends it
#   up.sh --check           says whether this machine can run one
#   up.sh --owned [NODES]   the same in the foreground: it prints the cluster's name, and ends the cluster when its standard input
#                           ends, so that it goes with its owner, however that ends
# Wants root, Go 1.26 and Debian's packages (scripts/cluster-packages.sh installs them). node.sh, volume.sh and image.sh change a
# cluster that runs. This machine's shells reach pods and cluster IPs.
set -euo pipefail
. "$(dirname "$0")/cluster.sh"
. "$here/members.sh"
. "$here/nodes.sh"
owned='' check=''
case ${1:-} in
--owned) owned=yes ;;
--check) check=yes ;;
esac
[ -z "$owned$check" ] || shift
nodes=${1:-1}
if [ $# -gt 1 ] || ! [[ $nodes =~ ^[0-9]+$ ]]; then
    sed -n 's/^# \{0,1\}//; 2,6p' "$0" >&2
    exit 2
fi
[ "$nodes" -le "$most_nodes" ] || fail "$nodes nodes are too many: a cluster has at most $most_nodes"
[ "$(id -u)" = 0 ] || fail "namespaces and bridges are made by root alone: run it with sudo"
command -v go >/dev/null || fail "go is not in the PATH: install Go 1.26, which builds the cluster's programs"
"$here/../../scripts/cluster-packages.sh"
unshare --net --mount --pid --fork ip link add pal type bridge 2>/dev/null ||
    fail "root may not make network namespaces and bridges here: run it on a machine, or in a container with --privileged"
[ -z "$check" ] || exit 0
"$here/down.sh" --orphans
programs=$("$here/binaries.sh")
"$here/image.sh" "$base_image"

# take_a_number: a bridge that could be made is nobody else's.
take_a_number() {
    local candidate why
    for candidate in $(seq "$most_clusters"); do
        if why=$(ip link add "pal$candidate" address "$(printf '02:89:00:00:%02x:01' "$candidate")" type bridge 2>&1); then
            use_cluster "pal$candidate"
            return
        fi
        [[ $why == *exists* ]] || fail "no bridge can be made: $why"
    done
    fail "$most_clusters clusters run already: \`down.sh NAME\` ends one"
}

prepare() {
    local node identities=()
    # What is still there belonged to a cluster whose bridge was removed by hand.
    # shellcheck disable=SC2119
    end_all
    rm -rf "$state"
    mkdir -p "$state/logs"
    [ ${#state} -le 80 ] || fail "$state is too long a path for a socket's: set PALIMPSEST_CACHE to a shorter one"
    [ -z "$owned" ] || echo $$ >"$state/owner"
    ln -s "$programs" "$state/bin"
    for node in $(seq "$most_nodes"); do
        identities+=(--node "node-$node=$(node_address "$node")")
    done
    "$programs/cluster-certificates" "$state/pki" --server "https://$control_address:6443" --address "$control_address" \
        --address "127.0.0.1" --address "10.96.$number.1" "${identities[@]}"
    cp "$state/pki/admin.kubeconfig" "$state/kubeconfig"
    ip address add "$machine_address/24" dev "$cluster"
    ip link set "$cluster" up
    for node in $(seq "$most_nodes"); do
        echo "route add $(node_pods "$node") via $(node_address "$node")"
    done | ip -batch -
}

take_a_number
trap 'echo "cluster: $cluster does not start; it is taken down again" >&2; "$here/down.sh" "$cluster"' EXIT
prepare
since=$(now)
launch control 2 control.sh
for node in $(seq "$nodes"); do
    prepare_node "node-$node"
    boot_node "node-$node"
done
route_services
wait_until 120 test -e "$state/control/ready" || { tail -n 20 "$state/logs/control.log" "$state/logs/kube-apiserver.log" >&2; exit 1; }
wait_until 60 "$programs/kubectl" --kubeconfig "$state/kubeconfig" get serviceaccount default
for node in $(seq "$nodes"); do
    await_node "node-$node" "$since"
done
trap - EXIT

if [ -z "$owned" ]; then
    echo "export KUBECONFIG=$state/kubeconfig"
    exit
fi
echo "$cluster"
cat >/dev/null
# Somebody may have taken it down, and another the number.
[ "$(cat "$state/owner" 2>/dev/null)" != $$ ] || exec "$here/down.sh" "$cluster"
