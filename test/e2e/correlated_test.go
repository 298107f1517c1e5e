package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Not parallel: so many sick nodes make the zones and instance types of the other tests' nodes suspect too.
func TestHalfOfAPoolTurnsSickAndOneIsTriedFirst(t *testing.T) {
	s := begin(t, "storm")
	nodes := s.pool(10, budgets(karpv1.Budget{Nodes: "100%"}))
	s.policy(func(p *v1alpha1.RepairPolicy) {
		p.Spec.CorrelatedFailure = v1alpha1.CorrelatedFailureSpec{} // as it is by default
		// The others wait until the probe has proved healthy: for longer than this test needs to heal them.
		p.Spec.Replacement.VerifyFor.Duration = 25 * time.Second
	})
	for _, node := range nodes[:5] {
		s.breakNode(node.Name)
	}
	s.reaches(v1alpha1.PhaseVerifying)
	probe := s.onlyRepair()
	waiting := lo.Filter(nodes[:5], func(n corev1.Node, _ int) bool { return n.Name != probe.Spec.NodeName })
	require.Len(t, waiting, 4)
	for _, node := range waiting {
		s.blocked(node.Name, "CorrelatedFailure")
		require.Contains(t, s.condition(node.Name, v1alpha1.ConditionRepairBlocked).Message, "suspect")
	}
	s.holdsFor(5*time.Second, "only the probe is at work", func() error {
		if n := len(s.repairs()); n != 1 {
			return fmt.Errorf("there are %d NodeRepairs", n)
		}
		return nil
	})
	// At once: with two left the pool would not be suspect any more, and they would be repaired.
	var healing errgroup.Group
	for _, node := range waiting {
		healing.Go(func() error { return s.c.Heal(s.ctx, node.Name) })
	}
	require.NoError(t, healing.Wait())
	s.eventually("the nodes that recovered are healthy and stay", func() error {
		for _, node := range waiting {
			if reason := s.condition(node.Name, v1alpha1.ConditionRepairBlocked).Reason; reason != "" {
				return fmt.Errorf("node %s is still blocked: %s", node.Name, reason)
			}
		}
		return nil
	})
	s.repairEnds(v1alpha1.PhaseSucceeded)
	s.onlyRepair()
	s.settles(10)
}
