// Package chaos ends, cuts off and hinders everything that a repair rests on, at every point that can be told apart, on
// a real control plane beside an unmodified Karpenter.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// shared is the cluster of all tests. None of them is parallel: each ends what the others would need.
var shared *cluster.Cluster

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
	if shared, err = cluster.Up(ctx, cluster.Options{Name: "chaos", Out: os.Stderr}); err != nil {
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
	return m.Run()
}
