// Command localcluster runs a real Kubernetes control plane with kwok and an
// unmodified Karpenter as plain processes on loopback. Tests, the demo and the
// benchmarks use it; nobody needs containers, a cloud or an installed kubectl.
//
// The same binary is etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler and kubectl; Karpenter and kwok are built from the versions
// that go.mod pins, when "up" first needs them. A plain "go build" is enough.
package main

import (
	"os"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
