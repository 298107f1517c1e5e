// Package e2e proves the scenarios on a real control plane, beside an unmodified Karpenter.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")

	// shared is the cluster of all tests but those that need a Karpenter of their own.
	shared     *cluster.Cluster
	controller *cluster.Controller
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() || os.Getenv("LOCALCLUSTER") == "" {
		// Each test skips, and says so.
		return m.Run()
	}
	ctx := context.Background()
	var err error
	if shared, err = cluster.Up(ctx, cluster.Options{Name: "e2e", FeatureGates: "StaticCapacity=true", Out: os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := shared.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	if err := shared.Install(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if controller, err = shared.StartController(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer controller.Stop() //nolint:errcheck // the tests have ended
	return m.Run()
}
