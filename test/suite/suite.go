// Package suite is what the tests of a package on a local cluster share: one cluster for all of them, and waiting.
package suite

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/rights"
)

// Check looks, after the tests, at what they have left on their cluster.
type Check func(context.Context, *cluster.Cluster) error

// Run brings up a cluster with what the chart installs, calls begin with it, runs the tests, and takes it down again. It
// gives the exit code, which is not 0 either where one of the checks, which follow the tests if these have passed, gives
// an error, or where the controller or an agent has asked the API server for what its roles do not list. Where the tests
// are short or there is no local cluster (LOCALCLUSTER, as make test-cluster sets it), begin is not called, and each test
// is to skip: see Need. What begin starts is ended by the function it gives.
func Run(m *testing.M, o cluster.Options, begin func(context.Context, *cluster.Cluster) (end func(), err error), checks ...Check) int {
	if Missing() != "" {
		return m.Run()
	}
	o.Out = os.Stderr
	if !o.Bare { // where roles come and go there is nothing to compare with
		o.Audit = rights.Audited
		checks = append(checks, rights.CheckOutside)
	}
	code, err := run(context.Background(), m, o, begin, checks)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func run(ctx context.Context, m *testing.M, o cluster.Options, begin func(context.Context, *cluster.Cluster) (func(), error), checks []Check) (int, error) {
	c, err := cluster.Up(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err := c.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	if !o.Bare {
		if err := c.Install(ctx); err != nil {
			return 0, err
		}
	}
	end, err := begin(ctx, c)
	if err != nil {
		return 0, err
	}
	defer end()
	if code := m.Run(); code != 0 {
		return code, nil
	}
	for _, check := range checks {
		if err := check(ctx, c); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// Missing says what a local cluster needs and is not there; empty where nothing is missing.
func Missing() string {
	if testing.Short() || os.Getenv("LOCALCLUSTER") == "" {
		return "needs a local cluster: run make test-cluster"
	}
	return ""
}

// Need skips a test, loudly, where there is no local cluster.
func Need(t *testing.T) {
	t.Helper()
	if missing := Missing(); missing != "" {
		t.Skip("SKIPPED: " + missing)
	}
}

// Within waits until check gives no error, and fails the test when it still does after the time.
func Within(ctx context.Context, t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			t.Fatalf("after %s not yet: %s: %v", limit, what, err)
		}
	}
}

// HoldsFor fails the test when check gives an error at any moment within the time.
func HoldsFor(t testing.TB, span time.Duration, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(span); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err := check(); err != nil {
			t.Fatalf("no longer: %s: %v", what, err)
		}
	}
}
