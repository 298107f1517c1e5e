// Package agent proves that faults of a machine become conditions of its NodeClaim and go again: with the real agent on
// a machine of our own, a real API server, the controller, and an unmodified Karpenter.
package agent

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/machine"
)

// shared is the cluster of all tests; nil where there is none.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() || os.Getenv("LOCALCLUSTER") == "" || machine.Missing() != "" {
		// Each test skips, and says so.
		return m.Run()
	}
	ctx := context.Background()
	var err error
	if shared, err = cluster.Up(ctx, cluster.Options{Name: "agent", Out: os.Stderr}); err != nil {
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
	controller, err := shared.StartController(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer controller.Stop() //nolint:errcheck // the tests have ended
	return m.Run()
}

// needCluster skips where there is no cluster or no machine of our own.
func needCluster(t *testing.T) {
	t.Helper()
	if missing := machine.Missing(); missing != "" {
		t.Skip("SKIPPED: " + missing)
	}
	if shared == nil {
		t.Skip("SKIPPED: needs a local cluster: run make test-cluster")
	}
}
