# What the scripts of a cluster share; sourced. A cluster goes by the name of its bridge, palK, and K numbers all that is its own,
# so that several live side by side:
#
#   palK            a bridge; this machine is 10.89.K.1 on it. It has no default route: nothing gets out
#   10.89.K.2       the control plane: API server on port 6443, DNS on port 53
#   10.89.K.(10+N)  node-N, whose pods are in 10.(200+K).N.0/24
#   10.96.K.0/24    cluster IPs
#   /palK           its cgroups, with NAME/system for the programs of the control plane and of each node: what runs is known by
#                   them alone, whatever has become of files and shells
# shellcheck shell=bash disable=SC2034

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/wait.sh"
cache=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}
clusters=$cache/clusters
most_clusters=50 most_nodes=20
base_image=palimpsest.test/base:1

# A machine has one hierarchy of cgroups (version 2), or one a controller (version 1); there, the freezer's keeps the register.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    hierarchies=(/sys/fs/cgroup)
    register=/sys/fs/cgroup
else
    hierarchies=(/sys/fs/cgroup/*/)
    register=/sys/fs/cgroup/freezer
fi

fail() {
    echo "cluster: $*" >&2
    exit 2
}

# use_cluster NAME: sets what else is named by it.
use_cluster() {
    [[ $1 =~ ^pal[0-9]+$ ]] || fail "'$1' is no name of a cluster: they are called pal1, pal2 and so on"
    cluster=$1 number=${1#pal} state=$clusters/$1
    machine_address=10.89.$number.1 control_address=10.89.$number.2
    service_network=10.96.$number.0/24 pod_network=10.$((200 + number)).0.0/16
}
node_address() { echo "10.89.$number.$((10 + $1))"; }
node_pods() { echo "10.$((200 + number)).$1.0/24"; }

# running_clusters: their names, one a line; those, too, whose bridge was removed by hand.
running_clusters() {
    { ip -brief link show type bridge && ls "$register"; } | awk '$1 ~ /^pal[0-9]+$/ { print $1 }' | sort -u
}

# use_the_cluster: the one that $CLUSTER names, or the only one.
use_the_cluster() {
    local running
    mapfile -t running < <(running_clusters)
    if [ -n "${CLUSTER:-}" ]; then
        use_cluster "$CLUSTER"
        [[ " ${running[*]} " = *" $cluster "* ]] || fail "$cluster does not run: \`make cluster\` starts a cluster"
    elif [ ${#running[@]} = 1 ]; then
        use_cluster "${running[0]}"
    elif [ ${#running[@]} = 0 ]; then
        fail "no cluster runs: \`make cluster\` starts one"
    else
        fail "several clusters run: set CLUSTER to one of ${running[*]}"
    fi
}
