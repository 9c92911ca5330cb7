# Starts and ends members of a cluster, the control plane and its nodes; sourced after cluster.sh.
# shellcheck shell=bash disable=SC2154,SC2119,SC2120

# launch NAME HOST SCRIPT ARGUMENT...: runs inside/SCRIPT as the first process of namespaces of its own, 10.89.K.HOST on the
# bridge. With it everything that it started ends, and so do its namespaces, mounts and links: none of them has a name.
launch() {
    local name=$1 host=$2 script=$here/inside/$3 group=$register/$cluster/$1/system pid mac
    shift 3
    for hierarchy in "${hierarchies[@]}"; do
        mkdir -p "$hierarchy/$cluster/$name"
    done
    mkdir -p "$group" "$state/$name"
    (
        echo $BASHPID >"$group/cgroup.procs"
        exec setsid unshare --net --mount --propagation private --uts --pid --fork --kill-child=KILL --mount-proc \
            "$script" "$cluster" "$@"
    ) >>"$state/logs/$name.log" 2>&1 </dev/null &
    pid=$!
    # Bash would report how it ends.
    disown $pid
    wait_until 10 has_own_network $pid || fail "$name does not start: see $state/logs/$name.log"
    # The same hardware address at every boot: what others remember of it stays true.
    mac=$(printf '02:89:00:00:%02x:%02x' "$number" "$host")
    ip link add "$cluster-$name" master "$cluster" type veth peer name eth0 address "$mac" netns $pid
    ip link set "$cluster-$name" up
}

has_own_network() {
    [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]
}

# members [NAME]: the process ids of the whole cluster, or of one member.
members() {
    find "$register/$cluster${1:+/$1}" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

runs() {
    [ -n "$(members "$1")" ]
}

# freeze NAME, thaw [NAME]: processes that are frozen do not even end when they are killed.
freeze() {
    if [ "$register" = /sys/fs/cgroup ]; then
        echo 1 >"$register/$cluster/$1/cgroup.freeze"
    else
        echo FROZEN >"$register/$cluster/$1/freezer.state"
        wait_until 10 grep -qx FROZEN "$register/$cluster/$1/freezer.state"
    fi
}
thaw() {
    local file
    while read -r file; do
        # One that was of a pod may be gone by now.
        case $file in
        */cgroup.freeze) echo 0 2>/dev/null >"$file" || true ;;
        *) echo THAWED 2>/dev/null >"$file" || true ;;
        esac
    done < <(find "$register/$cluster${1:+/$1}" \( -name cgroup.freeze -o -name freezer.state \) 2>/dev/null)
}

# end_all [NAME]: kills the whole cluster, or one member, outright, and removes its cgroups and links.
end_all() {
    local group=$cluster${1:+/$1} pids link
    for _ in {1..200}; do
        thaw "$@"
        mapfile -t pids < <(members "$@")
        [ ${#pids[@]} -gt 0 ] || break
        kill -KILL "${pids[@]}" 2>/dev/null || true
        sleep 0.05
    done
    # A network namespace goes a moment after its last process, and would take the link with it only then.
    while read -r link; do
        ip link delete "$link" 2>/dev/null || true
    done < <(ip -brief link show type veth | sed -n "s/^\($cluster-${1:-[^@ ]*}\)[@ ].*/\1/p")
    for hierarchy in "${hierarchies[@]}"; do
        # Those of pods that are just ending are busy for a moment.
        wait_until 10 remove_groups "$hierarchy/$group" || fail "$hierarchy/$group cannot be removed: see which processes it holds"
    done
}

remove_groups() {
    [ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} +
}

# route_services: cluster IPs are reached from this machine and from the control plane by way of a node that is up and connected.
route_services() {
    local folder node control
    control=$(members control | head -n 1)
    for folder in "$state"/node-*/; do
        node=$(basename "$folder")
        ip link show "$cluster-$node" up 2>/dev/null | grep -q . || continue
        ip route replace "$service_network" via "$(node_address "${node#node-}")"
        nsenter --target "$control" --net ip route replace "$service_network" via "$(node_address "${node#node-}")"
        return
    done
}
