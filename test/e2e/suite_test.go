// Package e2e proves the scenarios on a real control plane, beside an unmodified Karpenter.
package e2e

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/rights"
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
		// The first one lists what it then watches, as beside an API server that cannot stream a list; see rights_test.go.
		restore := setenv("KUBE_FEATURE_WatchListClient", "false")
		controller, err = shared.StartController(ctx)
		restore()
		return func() { _ = controller.Stop() }, err
	}, func(ctx context.Context, c *cluster.Cluster) error {
		return rights.CheckUnused(ctx, c, cluster.ServiceAccount, unusedRights)
	}))
}
