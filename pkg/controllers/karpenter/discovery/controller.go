// Package discovery keeps what is known of the Karpenter beside us up to date.
package discovery

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// period between two looks; Karpenter changes only when somebody upgrades it.
const period = time.Minute

// Controller looks at Karpenter's Deployment from time to time.
type Controller struct {
	clock     clock.WithTicker
	discovery *snapshot.Discovery
	metrics   *metrics.Metrics
}

// NewController makes the controller.
func NewController(clk clock.WithTicker, discovery *snapshot.Discovery, series *metrics.Metrics) *Controller {
	return &Controller{clock: clk, discovery: discovery, metrics: series}
}

// Name of the controller.
func (*Controller) Name() string { return "karpenter.discovery" }

// Register looks for the first time, so that no decision is made in ignorance, and adds the loop to the manager.
func (c *Controller) Register(ctx context.Context, m manager.Manager) error {
	c.look(ctx)
	return m.Add(c)
}

// NeedLeaderElection is false: every replica has to know before it leads.
func (*Controller) NeedLeaderElection() bool { return false }

// Start looks once per period. What is known stays where Karpenter cannot be looked at.
func (c *Controller) Start(ctx context.Context) error {
	ticker := c.clock.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			c.look(ctx)
		}
	}
}

func (c *Controller) look(ctx context.Context) {
	logger := log.FromContext(ctx).WithName(c.Name())
	found, changed, err := c.discovery.Discover(ctx)
	if err != nil {
		logger.Error(err, "looking for karpenter")
		return
	}
	c.metrics.SetKarpenter(found.Version, found.OwnRepair, found.OwnRepairAssumed, found.HonoursDoNotRepair)
	if !changed {
		return
	}
	logger.Info("found karpenter", "version", found.Version, "ownRepair", found.OwnRepair, "honoursDoNotRepair", found.HonoursDoNotRepair,
		"rebootSupported", found.RebootSupported, "sources", found.Sources)
	switch {
	case found.OwnRepairAssumed && found.HonoursDoNotRepair:
		logger.Info("nothing tells whether karpenter repairs nodes itself; it is taken to do so and kept off sick nodes",
			"hint", "set --karpenter-node-repair=true or false")
	case found.OwnRepairAssumed:
		logger.Info("nothing tells whether karpenter repairs nodes itself, and it cannot be kept off a node; no node is repaired",
			"hint", "set --karpenter-version and --karpenter-node-repair")
	case found.OwnRepair && !found.HonoursDoNotRepair:
		logger.Info("karpenter repairs nodes itself and cannot be kept off a node; no node is repaired",
			"hint", "turn off karpenter's NodeRepair feature gate, or upgrade it to 1.15 or later")
	}
}
