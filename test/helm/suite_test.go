// Package helm installs, upgrades, rolls back and uninstalls the charts with the real Helm, and checks what they render.
package helm

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// shared is a cluster with nothing of ours; nil where there is none.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(suite.Run(m, cluster.Options{Name: "helm", Bare: true}, func(_ context.Context, c *cluster.Cluster) (func(), error) {
		shared = c
		return func() {}, nil
	}))
}
