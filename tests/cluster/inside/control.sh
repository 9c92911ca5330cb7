#!/usr/bin/env bash
# inside/control.sh CLUSTER: the first process of a control plane's namespaces. Started by up.sh.
set -euo pipefail
. "$(dirname "$0")/../cluster.sh"
. "$here/inside/network.sh"
use_cluster "$1"
programs=$(readlink "$state/bin") address=$control_address port=6443
. "$here/control-plane.sh"

join_network "$cluster-control" "$control_address"
start_etcd
start_apiserver "$service_network"
wait_until 120 kubectl get --raw /readyz
# A node that does not answer for so long is taken for dead.
start_controller_manager "$service_network" --bind-address=127.0.0.1 --node-monitor-grace-period=16s --node-monitor-period=2s \
    --horizontal-pod-autoscaler-sync-period=5s
start_scheduler --bind-address=127.0.0.1
start cluster-dns "$programs/cluster-dns" --kubeconfig "$state/pki/admin.kubeconfig" --address "$control_address:53"
touch "$state/control/ready"

# The first process of a pid namespace has every orphan for a child.
trap 'exit 0' TERM
while :; do wait -n || sleep 1; done
