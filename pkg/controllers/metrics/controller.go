// Package metrics sets the gauges to what the cluster holds.
package metrics

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/periodic"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// period between two counts.
const period = 10 * time.Second

// Controller counts what is in the cache and on the board.
type Controller struct {
	clock   clock.WithTicker
	cache   client.Reader
	board   *disruption.Board
	metrics *metrics.Metrics
}

// NewController makes the controller.
func NewController(clk clock.WithTicker, cache client.Reader, board *disruption.Board, series *metrics.Metrics) *Controller {
	return &Controller{clock: clk, cache: cache, board: board, metrics: series}
}

// Name of the controller.
func (*Controller) Name() string { return "metrics" }

// Register adds the loop that counts.
func (c *Controller) Register(_ context.Context, m manager.Manager) error { return m.Add(c) }

// NeedLeaderElection is true: replicas that do not lead would report the same again.
func (*Controller) NeedLeaderElection() bool { return true }

// Start counts once per period.
func (c *Controller) Start(ctx context.Context) error {
	c.metrics.Leading.WithLabelValues().Set(1)
	return periodic.Run(ctx, c.clock, period, func(ctx context.Context) { //nolint:wrapcheck // it gives none
		if err := c.Count(ctx); err != nil {
			log.FromContext(ctx).WithName(c.Name()).Error(err, "counting")
		}
	})
}

// Count sets the gauges to what holds now.
func (c *Controller) Count(ctx context.Context) error {
	healths := &v1alpha1.NodeHealthList{}
	if err := c.cache.List(ctx, healths, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing nodehealths, %w", err)
	}
	repairs := &v1alpha1.NodeRepairList{}
	if err := c.cache.List(ctx, repairs, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing noderepairs, %w", err)
	}
	pools := &karpv1.NodePoolList{}
	if err := c.cache.List(ctx, pools, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing nodepools, %w", err)
	}
	paused, err := snapshot.Paused(ctx, c.cache, c.clock.Now())
	if err != nil {
		return fmt.Errorf("counting stops, %w", err)
	}
	for i := range pools.Items {
		c.metrics.KnowNodePool(pools.Items[i].Name)
	}
	c.countHealths(healths.Items)
	c.countRepairs(repairs.Items)
	c.countDecisions()
	c.countSuspects()
	for kind, n := range paused {
		c.metrics.Paused.WithLabelValues(kind).Set(float64(n))
	}
	return nil
}

// sights from the best to the worst.
var sights = []string{string(v1alpha1.SourceActive), string(v1alpha1.SourceDegraded), string(v1alpha1.SourceUnavailable), silent}

// silent is the sight of a source whose heartbeats are missing.
const silent = "Silent"

func (c *Controller) countHealths(healths []v1alpha1.NodeHealth) {
	c.metrics.Findings.Reset()
	for _, sight := range sights {
		c.metrics.Nodes.WithLabelValues(sight).Set(0)
	}
	now := c.clock.Now()
	for i := range healths {
		c.metrics.Nodes.WithLabelValues(sightOf(&healths[i], now)).Inc()
		for _, f := range healths[i].Findings {
			reason := "Other"
			if known, ok := health.Lookup(f.Reason); ok {
				reason = known.Name
			}
			c.metrics.Findings.WithLabelValues(string(f.Category), string(f.Severity), reason).Inc()
		}
	}
}

// sightOf gives the worst of the sights of a node's sources.
func sightOf(nodeHealth *v1alpha1.NodeHealth, now time.Time) string {
	worst := 0
	for _, source := range nodeHealth.Sources {
		sight := string(source.State)
		if health.Silent(source, now) {
			sight = silent
		}
		worst = max(worst, slices.Index(sights, sight))
	}
	return sights[worst]
}

func (c *Controller) countRepairs(repairs []v1alpha1.NodeRepair) {
	c.metrics.RepairsActive.Reset()
	c.metrics.RepairsActiveSince.Reset()
	since := earliest{}
	for i := range repairs {
		if repairs[i].Finished() {
			continue
		}
		phase := string(cmp.Or(repairs[i].Status.Phase, v1alpha1.PhaseCommitted))
		c.metrics.RepairsActive.WithLabelValues(phase).Inc()
		since.add(phase, repairs[i].CreationTimestamp.Time)
	}
	since.set(c.metrics.RepairsActiveSince)
}

func (c *Controller) countDecisions() {
	c.metrics.Unhealthy.Reset()
	c.metrics.Blocked.Reset()
	c.metrics.BlockedSince.Reset()
	since := earliest{}
	for _, d := range c.board.All() {
		if d.Node.Verdict.Unhealthy {
			c.metrics.Unhealthy.WithLabelValues(d.Node.NodePool).Inc()
		}
		for _, blocker := range d.Blockers {
			c.metrics.Blocked.WithLabelValues(string(blocker.Reason)).Inc()
			if deciding := d.Node.Verdict.Deciding; d.Node.Verdict.Unhealthy && deciding != nil {
				since.add(string(blocker.Reason), deciding.EligibleAt)
			}
		}
	}
	since.set(c.metrics.BlockedSince)
}

// maxDomains bounds the domains that are named; where more are suspect than a person looks at, their number says it.
const maxDomains = 50

func (c *Controller) countSuspects() {
	for _, kind := range []string{"nodepool", "zone", "instance-type", "image"} {
		c.metrics.SuspectDomains.WithLabelValues(kind).Set(0)
	}
	c.metrics.DomainSick.Reset()
	c.metrics.DomainNodes.Reset()
	c.metrics.DomainWidth.Reset()
	suspects := slices.Clone(c.board.Suspects())
	slices.SortStableFunc(suspects, func(a, b decision.Suspect) int { return cmp.Compare(b.Sick, a.Sick) })
	for i, s := range suspects {
		c.metrics.SuspectDomains.WithLabelValues(s.Kind).Inc()
		if i >= maxDomains {
			continue
		}
		c.metrics.DomainSick.WithLabelValues(s.Kind, s.Name).Set(float64(s.Sick))
		c.metrics.DomainNodes.WithLabelValues(s.Kind, s.Name).Set(float64(s.Nodes))
		width := s.Width
		if !s.PausedUntil.IsZero() {
			width = 0
		}
		c.metrics.DomainWidth.WithLabelValues(s.Kind, s.Name).Set(float64(width))
	}
}

// earliest is the earliest time of each label value.
type earliest map[string]time.Time

func (e earliest) add(label string, at time.Time) {
	if was, ok := e[label]; !ok || at.Before(was) {
		e[label] = at
	}
}

func (e earliest) set(gauge *prometheus.GaugeVec) {
	for label, at := range e {
		gauge.WithLabelValues(label).Set(float64(at.Unix()))
	}
}
