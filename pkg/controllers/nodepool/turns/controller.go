// Package turns tells NodePools, by events, what concerns all of their nodes: domains that turn suspect and clear, and
// stops that begin and end.
package turns

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	clientevents "k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/periodic"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/events"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// period between two looks.
const period = 5 * time.Second

// Controller compares what holds with what held at its last look.
type Controller struct {
	clock    clock.WithTicker
	cache    client.Reader
	recorder clientevents.EventRecorder
	board    *disruption.Board

	suspects map[domain]decision.Suspect
	// paused are the NodePools that were; nil before the first look.
	paused map[types.UID]bool
}

type domain struct{ kind, name string }

// NewController makes the controller.
func NewController(clk clock.WithTicker, cache client.Reader, recorder clientevents.EventRecorder, board *disruption.Board) *Controller {
	return &Controller{clock: clk, cache: cache, recorder: recorder, board: board}
}

// Name of the controller.
func (*Controller) Name() string { return "nodepool.turns" }

// Register adds the loop that looks.
func (c *Controller) Register(_ context.Context, m manager.Manager) error { return m.Add(c) }

// NeedLeaderElection is true: only the replica that decides knows what is suspect.
func (*Controller) NeedLeaderElection() bool { return true }

// Start looks once per period.
func (c *Controller) Start(ctx context.Context) error {
	return periodic.Run(ctx, c.clock, period, func(ctx context.Context) { //nolint:wrapcheck // it gives none
		if err := c.Look(ctx); err != nil {
			log.FromContext(ctx).WithName(c.Name()).Error(err, "looking at nodepools")
		}
	})
}

// Look tells what has turned since the last look. A pause that stood before the first look is nothing new. A domain that
// is suspect by then is told again: better twice than never.
func (c *Controller) Look(ctx context.Context) error {
	pools := &karpv1.NodePoolList{}
	if err := c.cache.List(ctx, pools, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing nodepools, %w", err)
	}
	c.tellPauses(pools.Items)
	uids := map[string]types.UID{}
	for i := range pools.Items {
		uids[pools.Items[i].Name] = pools.Items[i].UID
	}
	c.tellSuspects(uids)
	return nil
}

func (c *Controller) tellPauses(pools []karpv1.NodePool) {
	first := c.paused == nil
	paused := map[types.UID]bool{}
	for i := range pools {
		pool := &pools[i]
		stops := snapshot.NodePoolStops(pool, c.clock.Now())
		paused[pool.UID] = len(stops) > 0
		switch {
		case first || paused[pool.UID] == c.paused[pool.UID]:
		case paused[pool.UID]:
			c.event(pool.Name, pool.UID, corev1.EventTypeNormal, events.ReasonRepairsPaused,
				fmt.Sprintf("repairs of the NodePool are stopped by %s. To lift it: %s", stops[0].Sentence(), stops[0].LiftedBy))
		default:
			c.event(pool.Name, pool.UID, corev1.EventTypeNormal, events.ReasonRepairsResumed, "repairs of the NodePool are stopped no longer")
		}
	}
	c.paused = paused
}

func (c *Controller) tellSuspects(uids map[string]types.UID) {
	suspects := map[domain]decision.Suspect{}
	for _, s := range c.board.Suspects() {
		key := domain{s.Kind, s.Name}
		suspects[key] = s
		if _, was := c.suspects[key]; !was {
			c.eventFor(s, uids, corev1.EventTypeWarning, events.ReasonDomainSuspect, fmt.Sprintf(
				"%s=%s is suspect with %d of %d nodes sick: the fault is taken for one that they share, and so many repairs may be at work there: %d",
				s.Kind, s.Name, s.Sick, s.Nodes, s.Width))
		}
	}
	for key, was := range c.suspects {
		if _, is := suspects[key]; !is {
			c.eventFor(was, uids, corev1.EventTypeNormal, events.ReasonDomainCleared, fmt.Sprintf("%s=%s is no longer suspect", was.Kind, was.Name))
		}
	}
	c.suspects = suspects
}

// eventFor tells every NodePool with a sick node in the domain.
func (c *Controller) eventFor(s decision.Suspect, uids map[string]types.UID, kind, reason, note string) {
	for _, name := range s.NodePools {
		if uid, ok := uids[name]; ok {
			// With the kind of the domain as action, those of one NodePool are events of their own.
			c.recorder.Eventf(events.NodePool(name, uid), nil, kind, reason, s.Kind, "%s", note)
		}
	}
}

func (c *Controller) event(name string, uid types.UID, kind, reason, note string) {
	c.recorder.Eventf(events.NodePool(name, uid), nil, kind, reason, "Pause", "%s", note)
}
