// Package metrics keeps the series about findings and repairs up to date.
package metrics

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
)

// period between two counts.
const period = 10 * time.Second

// Controller counts what is in the cache and on the board.
type Controller struct {
	clock   clock.WithTicker
	cache   client.Reader
	board   *disruption.Board
	metrics *metrics.Metrics
	elected <-chan struct{}
}

// NewController makes the controller.
func NewController(clk clock.WithTicker, cache client.Reader, board *disruption.Board, series *metrics.Metrics) *Controller {
	return &Controller{clock: clk, cache: cache, board: board, metrics: series}
}

// Name of the controller.
func (*Controller) Name() string { return "metrics" }

// Register watches NodeRepairs for their end, and adds the loop that counts.
func (c *Controller) Register(ctx context.Context, m manager.Manager) error {
	c.elected = m.Elected()
	informer, err := m.GetCache().GetInformer(ctx, &v1alpha1.NodeRepair{})
	if err != nil {
		return fmt.Errorf("watching noderepairs, %w", err)
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{UpdateFunc: func(before, after any) {
		was, ok := before.(*v1alpha1.NodeRepair)
		is, okAfter := after.(*v1alpha1.NodeRepair)
		if ok && okAfter && !was.Finished() && is.Finished() && c.leads() {
			c.finished(is)
		}
	}}); err != nil {
		return fmt.Errorf("watching noderepairs, %w", err)
	}
	return m.Add(c)
}

// leads says whether this replica leads; the others must not count the same end again.
func (c *Controller) leads() bool {
	select {
	case <-c.elected:
		return true
	default:
		return false
	}
}

// NeedLeaderElection is true: replicas that do not lead would report the same again.
func (*Controller) NeedLeaderElection() bool { return true }

// Start counts once per period.
func (c *Controller) Start(ctx context.Context) error {
	ticker := c.clock.NewTicker(period)
	defer ticker.Stop()
	for {
		if err := c.Count(ctx); err != nil {
			log.FromContext(ctx).WithName(c.Name()).Error(err, "counting")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
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
	c.metrics.Findings.Reset()
	for i := range healths.Items {
		for _, finding := range healths.Items[i].Findings {
			c.metrics.Findings.WithLabelValues(string(finding.Category), string(finding.Severity)).Inc()
		}
	}
	c.metrics.RepairsActive.Reset()
	for i := range repairs.Items {
		if !repairs.Items[i].Finished() {
			phase := repairs.Items[i].Status.Phase
			if phase == "" {
				phase = v1alpha1.PhaseCommitted
			}
			c.metrics.RepairsActive.WithLabelValues(string(phase)).Inc()
		}
	}
	c.metrics.Unhealthy.Reset()
	c.metrics.Blocked.Reset()
	for _, d := range c.board.All() {
		if d.Node.Verdict.Unhealthy {
			c.metrics.Unhealthy.WithLabelValues(d.Node.NodePool).Inc()
		}
		for _, blocker := range d.Blockers {
			c.metrics.Blocked.WithLabelValues(string(blocker.Reason)).Inc()
		}
	}
	return nil
}

// finished counts a repair and the times of its phases, once its end stands in the API.
func (c *Controller) finished(repair *v1alpha1.NodeRepair) {
	action := string(repair.Spec.Action)
	c.metrics.Repairs.WithLabelValues(string(repair.Status.Phase), action).Inc()
	previous := repair.CreationTimestamp
	for _, conditionType := range []string{
		v1alpha1.RepairConditionFenced, v1alpha1.RepairConditionProvisioned, v1alpha1.RepairConditionTerminated,
		v1alpha1.RepairConditionRebooted, v1alpha1.RepairConditionReleased, v1alpha1.RepairConditionVerified,
	} {
		condition := meta.FindStatusCondition(repair.Status.Conditions, conditionType)
		if condition == nil || condition.Status != metav1.ConditionTrue {
			continue
		}
		c.metrics.PhaseDuration.WithLabelValues(conditionType, action).Observe(max(condition.LastTransitionTime.Sub(previous.Time).Seconds(), 0))
		previous = condition.LastTransitionTime
	}
}
