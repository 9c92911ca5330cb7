# What every member of a cluster does first in its namespaces; sourced after cluster.sh.
# shellcheck shell=bash disable=SC2154

# join_network NAME ADDRESS: waits for the link to the bridge, and learns the way to every node's pods, those of nodes that are yet
# to come, too.
join_network() {
    local node
    hostname "$1"
    ip link set lo up
    wait_until 10 ip link show eth0 || fail "$1 is not connected to $cluster"
    ip address add "$2/24" dev eth0
    ip link set eth0 up
    for node in $(seq "$most_nodes"); do
        [ "$2" = "$(node_address "$node")" ] || echo "route add $(node_pods "$node") via $(node_address "$node")"
    done | ip -batch -
}
