// Package agent proves that faults of a machine become conditions of its NodeClaim and go again: with the real agent on
// a machine of our own, a real API server, the controller, and an unmodified Karpenter.
package agent

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/machine"
	"github.com/autorepair-sh/karpenter-autorepair/test/rights"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

var (
	// shared is the cluster of all tests; nil where there is none.
	shared     *cluster.Cluster
	controller *cluster.Controller
)

func TestMain(m *testing.M) {
	becomeContainer()
	flag.Parse()
	if machine.Missing() != "" {
		os.Exit(m.Run()) // each test skips, and says so
	}
	os.Exit(suite.Run(m, cluster.Options{Name: "agent"}, func(ctx context.Context, c *cluster.Cluster) (func(), error) {
		var err error
		shared = c
		controller, err = shared.StartController(ctx)
		return func() { _ = controller.Stop() }, err
	}, func(ctx context.Context, c *cluster.Cluster) error {
		return rights.CheckUnused(ctx, c, cluster.AgentServiceAccount, nil)
	}))
}

// needCluster skips where there is no cluster or no machine of our own.
func needCluster(t *testing.T) {
	t.Helper()
	if missing := machine.Missing(); missing != "" {
		t.Skip("SKIPPED: " + missing)
	}
	suite.Need(t)
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
