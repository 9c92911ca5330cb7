#!/usr/bin/env bash
# Builds etcd and Kubernetes from their Go modules, once, and prints the folder that holds them:
# $PALIMPSEST_CACHE/cluster-DIGEST, DIGEST being that of the sources in binaries/. Nothing is done where it is there already.
set -euo pipefail
sources=$(cd "$(dirname "$0")/binaries" && pwd)
cache=${PALIMPSEST_CACHE:-$HOME/.cache/palimpsest}
programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl
    cluster-certificates cluster-dns)

digest=$(cd "$sources" && cat go.mod go.sum ./*.go | sha256sum | cut -c1-12)
folder=$cache/cluster-$digest
if [ -e "$folder/complete" ]; then
    echo "$folder"
    exit 0
fi

if ! command -v go >/dev/null; then
    echo "go is not in the PATH: install Go 1.26, which builds the cluster's programs" >&2
    exit 1
fi
case $(go env GOVERSION) in
go1.26*) ;;
# JSON as Go 1.27 writes it breaks the API server's OpenAPI; older ones do not compile Kubernetes. Go brings this one itself.
*) export GOTOOLCHAIN=go1.26.8 ;;
esac

mkdir -p "$cache"
# Two at once would build the same thing twice.
exec 9>"$cache/.cluster.lock"
flock 9
if [ ! -e "$folder/complete" ]; then
    version=$(sed -n 's#^\tk8s.io/kubernetes v##p' "$sources/go.mod")
    echo "cluster: building Kubernetes $version and etcd into $folder (6 minutes on two cores, once)" >&2
    rm -rf "$folder"
    mkdir "$folder"
    variables=k8s.io/component-base/version
    IFS=. read -r major minor _ <<<"$version"
    (cd "$sources" && CGO_ENABLED=0 go build -mod=readonly -trimpath -o "$folder/cluster" -ldflags "-s -w
        -X $variables.gitVersion=v$version -X $variables.gitMajor=$major -X $variables.gitMinor=$minor" .) >&2
    for program in "${programs[@]}"; do
        ln -s cluster "$folder/$program"
    done
    touch "$folder/complete"
fi
echo "$folder"
