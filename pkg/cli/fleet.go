package cli

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// Fleet is what a command knows of a cluster: objects and a time. Everything that is shown is reckoned from it.
type Fleet struct {
	Now time.Time

	NodePools  []karpv1.NodePool
	NodeClaims []karpv1.NodeClaim
	Nodes      []corev1.Node
	Health     []v1alpha1.NodeHealth
	Repairs    []v1alpha1.NodeRepair
	Policies   []v1alpha1.RepairPolicy
	Pauses     []v1alpha1.RepairPause
	// Pods of the nodes that are sick, and all PodDisruptionBudgets, where they were asked for.
	Pods    []corev1.Pod
	Budgets []policyv1.PodDisruptionBudget

	// Karpenter is what is known about the Karpenter of the cluster.
	Karpenter decision.Karpenter
	// KarpenterAssumed: which it is and whether it repairs nodes itself could not be found out.
	KarpenterAssumed bool
	// RebootProviders are the API groups of the node classes whose provider reboots; nil for those that we know.
	RebootProviders []string
	// Controller is whether ours is at work; nil where that cannot be told.
	Controller *ControllerState
	// Gaps are what could not be read although it was wanted.
	Gaps []Gap
	// unread is what was answered in the place of a list, by the type of the list.
	unread map[string]error
}

// Input gives what a decision about the fleet rests on, gathered exactly as the controller gathers it.
func (f *Fleet) Input(ctx context.Context) (decision.Input, error) {
	gatherer := snapshot.NewGatherer(frozen{now: f.Now}, shelf{f}, func() decision.Karpenter { return f.Karpenter }, true)
	if f.RebootProviders != nil {
		gatherer.RebootedBy(f.RebootProviders)
	}
	in, err := gatherer.Gather(ctx)
	if err != nil {
		return in, fmt.Errorf("gathering what the decision rests on, %w", err)
	}
	return in, nil
}

// frozen is a clock that stands.
type frozen struct {
	clock.RealClock
	now time.Time
}

// Now gives the time at which the clock stands.
func (f frozen) Now() time.Time { return f.now }

// Since gives the time that has passed since t.
func (f frozen) Since(t time.Time) time.Duration { return f.now.Sub(t) }
