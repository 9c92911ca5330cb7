#!/usr/bin/env bash
# inside/node.sh CLUSTER N: the first process of a node's namespaces. Started by up.sh and node.sh.
set -euo pipefail
. "$(dirname "$0")/../cluster.sh"
. "$here/inside/network.sh"
use_cluster "$1"
node=node-$2 address=$(node_address "$2")
folder=$state/$node programs=$(readlink "$state/bin")
. "$here/control-plane.sh"

# What a machine forgets when it is switched off is in memory: sandboxes, addresses given to pods, lists of running containers.
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/containerd /run/netns /run/sysctl

# sysctl_for_itself NAME VALUE: the kubelet insists on values of the whole machine's: it finds them, and the machine keeps its own.
sysctl_for_itself() {
    echo "$2" >"/run/sysctl/$1"
    mount --bind "/run/sysctl/$1" "/proc/sys/${1//.//}"
}
sysctl_for_itself vm.overcommit_memory 1
sysctl_for_itself vm.panic_on_oom 0
sysctl_for_itself kernel.panic 10
sysctl_for_itself kernel.panic_on_oops 1
sysctl_for_itself kernel.keys.root_maxkeys 1000000
sysctl_for_itself kernel.keys.root_maxbytes 25000000
# These are a network namespace's own.
echo 1 >/proc/sys/net/ipv4/ip_forward
[ ! -e /proc/sys/net/bridge ] || echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

for file in containerd.toml kubelet.yaml kube-proxy.yaml network.conflist; do
    sed -e "s#@folder@#$folder#g; s#@state@#$state#g; s#@cluster@#$cluster#g; s#@node@#$node#g; s#@image@#$base_image#g" \
        -e "s#@dns@#$control_address#g; s#@pods@#$(node_pods "$2")#g; s#@all_pods@#$pod_network#g" "$here/inside/$file" >"/run/$file"
done
mkdir -p /run/cni
mv /run/network.conflist /run/cni/

join_network "$node" "$address"
start "containerd-$node" containerd --config /run/containerd.toml
wait_until 30 ctr --address "$folder/containerd.sock" version || fail "containerd does not answer: see $state/logs/containerd-$node.log"
wait_until 120 test -e "$state/control/ready" || fail "the control plane does not get ready: see $state/logs"
start "kubelet-$node" "$programs/kubelet" --config /run/kubelet.yaml --kubeconfig "$state/pki/$node.kubeconfig" \
    --root-dir "$folder/kubelet" --cert-dir "$folder/kubelet" --hostname-override "$node" --node-ip "$address"
start "kube-proxy-$node" "$programs/kube-proxy" --config /run/kube-proxy.yaml --hostname-override "$node"

# The first process of a pid namespace has every orphan for a child.
trap 'exit 0' TERM
while :; do wait -n || sleep 1; done
