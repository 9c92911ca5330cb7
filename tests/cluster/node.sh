#!/usr/bin/env bash
# Does to the nodes of a cluster what happens to machines. $CLUSTER names the cluster where several run.
#   node.sh add           one more; prints its name and returns when it is Ready
#   node.sh kill NAME     switches it off: every process on it is killed outright, and what it had in memory is gone
#   node.sh boot NAME     switches it on again; returns when it is Ready
#   node.sh freeze NAME   stops every process where it is, as a machine that hangs; `thaw` lets them go on
#   node.sh cut NAME      pulls its network cable; `mend` puts it back
#   node.sh shell NAME [COMMAND...]   runs a command in its namespaces
set -euo pipefail
. "$(dirname "$0")/cluster.sh"
. "$here/members.sh"
usage() {
    sed -n 's/^# \{0,1\}//; 2,8p' "$0" >&2
    exit 2
}
. "$here/nodes.sh"
[ $# -ge 1 ] || usage
action=$1 node=${2:-}
use_the_cluster
if [ "$action" != add ]; then
    [[ -n $node && -d $state/$node ]] || fail "'$node' is no node of $cluster: those are $(cd "$state" && echo node-*)"
fi

add() {
    local next=1 since
    while [ -d "$state/node-$next" ]; do next=$((next + 1)); done
    [ $next -le $most_nodes ] || fail "$cluster has $most_nodes nodes already, which is the most"
    since=$(now)
    prepare_node "node-$next"
    boot_node "node-$next"
    route_services
    await_node "node-$next" "$since"
    echo "node-$next"
}

kill_node() {
    end_all "$node"
    route_services
}

boot() {
    local since
    ! runs "$node" || fail "$node is on already: \`node.sh kill $node\` switches it off"
    since=$(now)
    boot_node "$node"
    route_services
    await_node "$node" "$since"
}

connected() {
    ip link set "$cluster-$node" "$1" 2>/dev/null || fail "$node is switched off: \`node.sh boot $node\` switches it on"
    route_services
}

shell() {
    local process
    process=$(members "$node/system" | while read -r pid; do
        # The first process of its pid namespace.
        ! grep -q $'^NSpid:\t[0-9]*\t1$' "/proc/$pid/status" || echo "$pid"
    done | head -n 1)
    [ -n "$process" ] || fail "$node is switched off: \`node.sh boot $node\` switches it on"
    exec nsenter --target "$process" --net --mount --pid --uts -- "${@:-bash}"
}

case $action in
add) add ;;
kill) kill_node ;;
boot) boot ;;
freeze) freeze "$node" ;;
thaw) thaw "$node" ;;
cut) connected down ;;
mend) connected up ;;
shell) shell "${@:3}" ;;
*) usage ;;
esac
