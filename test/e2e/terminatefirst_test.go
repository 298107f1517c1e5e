package e2e

import (
	"fmt"
	"testing"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func terminatingFirst(p *v1alpha1.RepairPolicy) {
	p.Spec.Replacement.Strategy = v1alpha1.StrategyTerminateFirstWhereNeeded
}

func (s *scenario) wentFirst(repair v1alpha1.NodeRepair) {
	s.Helper()
	require.True(s, repair.Spec.TerminateFirst)
	verified := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionVerified)
	require.Equal(s, v1alpha1.VerifiedHealthy, verified.Reason, "Karpenter's refill was watched")
	require.Len(s, repair.Status.Replacements, 1)
	for _, claim := range s.claims() {
		require.NotContains(s, claim.Labels, v1alpha1.NodeRepairLabel, "we make no NodeClaim where the node goes first")
	}
}

func TestANodeOfAStaticPoolGoesFirstAndKarpenterRefills(t *testing.T) {
	t.Parallel()
	s := begin(t, "first-static")
	node := s.pool(1, blockers["static-pool"].pool...)[0].Name
	s.policy(terminatingFirst)
	s.breakNode(node)
	s.wentFirst(s.repairEnds(v1alpha1.PhaseSucceeded))
	s.gone(node)
	s.settles(1)
}

func TestANodeOfAPoolAtItsLimitsGoesFirst(t *testing.T) {
	t.Parallel()
	s := begin(t, "first-limits")
	node := s.pool(1, func(np *karpv1.NodePool) { np.Spec.Limits = karpv1.Limits{"nodes": resource.MustParse("1")} })[0].Name
	s.policy(terminatingFirst)
	s.breakNode(node)
	s.wentFirst(s.repairEnds(v1alpha1.PhaseSucceeded))
	s.gone(node)
	s.settles(1)
}

// The budget of one is held until the place of the first is refilled.
func TestNodesOfAStaticPoolGoOneAtATime(t *testing.T) {
	t.Parallel()
	s := begin(t, "first-static-two")
	pool := append([]any{}, blockers["static-pool"].pool...)
	nodes := s.pool(2, append(pool, func(np *karpv1.NodePool) { np.Spec.Replicas = lo.ToPtr[int64](2) }, budgets(karpv1.Budget{Nodes: "1"}))...)
	s.neverMoreDisruptedThan(1)
	s.policy(terminatingFirst)
	for _, node := range nodes {
		s.breakNode(node.Name)
	}
	s.repairsEnd(v1alpha1.PhaseSucceeded, 2)
	s.settles(2)
	repairs := s.repairs()
	require.Len(t, repairs, 2)
	require.NotEqual(t, repairs[0].Status.Replacements[0].NodeClaim, repairs[1].Status.Replacements[0].NodeClaim, "each has its own refill")
}

func TestANodeWithRoomBesideItNeverGoesFirst(t *testing.T) {
	t.Parallel()
	s := begin(t, "first-room")
	node := s.pool(1)[0].Name
	s.policy(terminatingFirst)
	s.breakNode(node)
	repair := s.repairEnds(v1alpha1.PhaseSucceeded)
	require.False(t, repair.Spec.TerminateFirst)
	require.Equal(t, repair.Name, func() string {
		for _, claim := range s.claims() {
			return claim.Labels[v1alpha1.NodeRepairLabel]
		}
		return fmt.Sprintf("none of %d NodeClaims", len(s.claims()))
	}(), "the replacement is ours")
}
