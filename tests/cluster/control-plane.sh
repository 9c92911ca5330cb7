# The programs of a control plane, one function each; sourced by those who start one. They want:
#   programs  the folder of binaries.sh       state  where etcd, certificates (state/pki) and logs (state/logs) are kept
#   address, port  where the API server listens
# shellcheck shell=bash disable=SC2034,SC2154
. "$(dirname "${BASH_SOURCE[0]}")/wait.sh"

# start NAME PROGRAM ARGUMENT...: in the background, its output in logs/NAME.log. It dies when this shell does, however that ends.
start() {
    local name=$1
    shift
    setpriv --pdeathsig KILL -- "$@" >"$state/logs/$name.log" 2>&1 </dev/null &
    started[$name]=$!
}
declare -gA started=()

# make_certificates SERVICE_ADDRESS [--node NAME=ADDRESS]...
make_certificates() {
    local service_address=$1
    shift
    "$programs/cluster-certificates" "$state/pki" --server "https://$address:$port" \
        --address "$address" --address 127.0.0.1 --address "$service_address" "$@"
}

# It listens on sockets, not ports: nobody but the API server beside it has anything to ask. What it tells others of itself has to
# look like a port all the same, and there are no others.
start_etcd() {
    start etcd "$programs/etcd" --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "unix://$state/etcd.sock" --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls "unix://$state/peer.sock" --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster default=http://127.0.0.1:2380
}

# start_apiserver SERVICE_NETWORK FLAG...
start_apiserver() {
    local network=$1 pki=$state/pki
    shift
    start kube-apiserver "$programs/kube-apiserver" --etcd-servers="unix://$state/etcd.sock" \
        --bind-address="$address" --secure-port="$port" --advertise-address="$address" --service-cluster-ip-range="$network" \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
        --anonymous-auth=false --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file="$pki/service-accounts.pub" --service-account-signing-key-file="$pki/service-accounts.key" \
        --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
        --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
        --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key" \
        --profiling=false "$@"
}

# The controllers' own pace is for clusters of thousands; a default service account would come after 6 seconds.
# start_controller_manager SERVICE_NETWORK FLAG...
start_controller_manager() {
    local network=$1 pki=$state/pki
    shift
    start kube-controller-manager "$programs/kube-controller-manager" --kubeconfig="$pki/controller-manager.kubeconfig" \
        --authentication-kubeconfig="$pki/controller-manager.kubeconfig" --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
        --leader-elect=false --use-service-account-credentials=true --kube-api-qps=500 --kube-api-burst=1000 \
        --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" \
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
        --service-cluster-ip-range="$network" --profiling=false "$@"
}

# start_scheduler FLAG...
start_scheduler() {
    local pki=$state/pki
    start kube-scheduler "$programs/kube-scheduler" --kubeconfig="$pki/scheduler.kubeconfig" \
        --authentication-kubeconfig="$pki/scheduler.kubeconfig" --authorization-kubeconfig="$pki/scheduler.kubeconfig" \
        --leader-elect=false --profiling=false "$@"
}

kubectl() {
    KUBECACHEDIR=$state/cache "$programs/kubectl" --kubeconfig "$state/pki/admin.kubeconfig" "$@"
}
