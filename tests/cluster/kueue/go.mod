// Not a program: Kueue's module is where its definitions are published.
module palimpsest.dev/tests/cluster/kueue

go 1.26

require sigs.k8s.io/kueue v0.17.0
