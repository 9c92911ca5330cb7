#!/usr/bin/env bash
# volume.sh NAME [FOLDER]: binds a claim NAME of the default namespace to a folder of this machine, which every node sees, so that
# pvc://NAME/PATH is FOLDER/PATH. Prints the folder; one that lives as long as the cluster is made where none is given.
# $CLUSTER names the cluster where several run, $NAMESPACE another namespace.
set -euo pipefail
. "$(dirname "$0")/cluster.sh"
[[ ${1:-} =~ ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$ ]] || { sed -n 's/^# \{0,1\}//; 2,4p' "$0" >&2; exit 2; }
name=$1 namespace=${NAMESPACE:-default}
use_the_cluster
folder=${2:-$state/volumes/$namespace-$name}
if [ $# -lt 2 ]; then
    mkdir -p "$folder"
    # Whatever user a pod runs as may write to it.
    chmod 1777 "$folder"
fi
folder=$(cd "$folder" && pwd)
"$state/bin/kubectl" --kubeconfig "$state/kubeconfig" apply --server-side -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: "$namespace-$name"}
spec:
  capacity: {storage: 1Ti}
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  claimRef: {namespace: "$namespace", name: "$name"}
  hostPath: {path: "$folder", type: Directory}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {namespace: "$namespace", name: "$name"}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  volumeName: "$namespace-$name"
  resources: {requests: {storage: 1Ti}}
YAML
echo "$folder"
