// Package chaos ends, cuts off and hinders everything that a repair rests on, at every point that can be told apart, on
// a real control plane beside an unmodified Karpenter.
package chaos

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// shared is the cluster of all tests. None of them is parallel: each ends what the others would need.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(suite.Run(m, cluster.Options{Name: "chaos"}, func(_ context.Context, c *cluster.Cluster) (func(), error) {
		shared = c
		return func() {}, nil
	}))
}
