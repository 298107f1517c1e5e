// Package e2e proves the scenarios on a real control plane, beside an unmodified Karpenter.
package e2e

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")

	// shared is the cluster of all tests but those that need a Karpenter of their own.
	shared     *cluster.Cluster
	controller *cluster.Controller
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(suite.Run(m, cluster.Options{Name: "e2e", FeatureGates: "StaticCapacity=true"}, func(ctx context.Context, c *cluster.Cluster) (func(), error) {
		var err error
		shared = c
		controller, err = shared.StartController(ctx)
		return func() { _ = controller.Stop() }, err
	}))
}
