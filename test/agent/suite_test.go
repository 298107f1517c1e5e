// Package agent proves that faults of a machine become conditions of its NodeClaim and go again: with the real agent on
// a machine of our own, a real API server, the controller, and an unmodified Karpenter.
package agent

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/machine"
)

var (
	// shared is the cluster of all tests; nil where there is none.
	shared     *cluster.Cluster
	controller *cluster.Controller
)

func TestMain(m *testing.M) {
	becomeContainer()
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
	if controller, err = shared.StartController(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = controller.Stop() }()
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

// controllerLives starts the controller again, as its Deployment would: it ends where it cannot renew its lease.
func controllerLives(s *scenario) {
	s.Helper()
	if !controller.Ended() {
		return
	}
	var err error
	controller, err = s.c.StartController(s.ctx)
	require.NoError(s, err)
}
