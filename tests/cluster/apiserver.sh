#!/usr/bin/env bash
# An API server without nodes, on loopback: etcd and kube-apiserver, and with --controllers the controller-manager, too.
#   apiserver.sh up DIR [--controllers]    starts it, with all its state in the new folder DIR: then `export KUBECONFIG=DIR/kubeconfig`
#   apiserver.sh down DIR                  stops it and removes DIR
#   apiserver.sh run DIR [--controllers]   the same in the foreground, until its standard input ends or it is told to stop:
#                                          so it goes with its owner, however that ends. It prints `ready` when it is.
# A signal USR1 to the process in DIR/pid kills the API server and starts it again; DIR/restarts counts how often that was done.
# Root is not needed; any number may run at once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage() {
    sed -n 's/^# \{0,1\}//; 2,8p' "$0" >&2
    exit 2
}
[ $# -ge 2 ] || usage
action=$1 folder=$2 controllers=${3:-}
[ -z "$controllers" ] || [ "$controllers" = --controllers ] || usage

# start_on_a_free_port: one below those that outgoing connections get. Another may take it meanwhile: then we try the next.
start_on_a_free_port() {
    flags=(--endpoint-reconciler-type=none)
    # Pods cannot be created before somebody makes their service account, which is the controllers' work.
    [ -n "$controllers" ] || flags+=(--disable-admission-plugins=ServiceAccount)
    while :; do
        port=$((20000 + RANDOM % 12000))
        make_certificates 10.96.0.1
        start_apiserver 10.96.0.0/24 "${flags[@]}"
        wait_until 120 answers_or_ended && kubectl get --raw /readyz >/dev/null 2>&1 && return
        if ! grep -q 'address already in use' "$state/logs/kube-apiserver.log"; then
            echo "kube-apiserver does not get ready; the end of $state/logs/kube-apiserver.log:" >&2
            tail -n 20 "$state/logs/kube-apiserver.log" >&2
            exit 1
        fi
    done
}

answers_or_ended() {
    ! kill -0 "${started[kube-apiserver]}" 2>/dev/null || kubectl get --raw /readyz
}

# Kills the API server outright and starts it on the same etcd, at the same port.
restart_apiserver() {
    { kill -KILL "${started[kube-apiserver]}"; wait "${started[kube-apiserver]}"; } 2>/dev/null || true
    start_apiserver 10.96.0.0/24 "${flags[@]}"
    wait_until 120 kubectl get --raw /readyz
    restarts=$((restarts + 1))
    echo "$restarts" >"$state/restarts"
}

run() {
    mkdir -p "$folder"
    state=$(cd "$folder" && pwd) address=127.0.0.1
    # A socket's path has room for 107 characters.
    [ ${#state} -le 90 ] || { echo "$state is too long a path for etcd's socket: choose a folder with a shorter one" >&2; exit 2; }
    programs=$("$here/binaries.sh")
    . "$here/control-plane.sh"
    mkdir -p "$state/logs"
    echo $$ >"$state/pid"
    trap 'exit 0' TERM INT
    # Bash would report each of them as killed.
    trap '{ kill -KILL "${started[@]}"; wait; } 2>/dev/null || true' EXIT

    exec 3<&0
    cat <&3 >/dev/null &
    started[owner]=$!
    start_etcd
    start_on_a_free_port
    ln -sfn "$programs" "$state/bin"
    if [ -n "$controllers" ]; then
        # It gives up where roles are not there yet; now they are.
        start_controller_manager 10.96.0.0/24 --bind-address=127.0.0.1 --secure-port=0
        wait_until 60 kubectl get serviceaccount default
    fi
    cp "$state/pki/admin.kubeconfig" "$state/kubeconfig"
    echo ready
    # The first of them that ends, ends all: the owner, or a program that should not have.
    restarts=0 seen=0
    trap restart_apiserver USR1
    while :; do
        wait -n || true
        [ "$restarts" -gt "$seen" ] || break
        seen=$restarts
    done
}

up() {
    [ ! -e "$folder/pid" ] || { echo "$folder holds an API server: \`$0 down $folder\` ends it" >&2; exit 2; }
    mkdir -p "$folder"
    mkfifo "$folder/owner"
    # Open at both ends, the pipe never ends: it is `down` that does.
    setsid "$0" run "$folder" ${controllers:+"$controllers"} 0<>"$folder/owner" >"$folder/output" 2>&1 &
    local pid=$!
    until grep -qx ready "$folder/output"; do
        if ! kill -0 $pid 2>/dev/null; then
            cat "$folder/output" >&2
            exit 1
        fi
        sleep 0.1
    done
    echo "export KUBECONFIG=$(cd "$folder" && pwd)/kubeconfig"
}

down() {
    [ -e "$folder/pid" ] || { echo "$folder holds no API server" >&2; exit 2; }
    local pid
    pid=$(cat "$folder/pid")
    if grep -qz apiserver.sh "/proc/$pid/cmdline" 2>/dev/null; then
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    fi
    rm -rf "$folder"
}

case $action in
run | up | down) "$action" ;;
*) usage ;;
esac
