package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// budgets replaces the budgets of a NodePool.
func budgets(b ...karpv1.Budget) func(*karpv1.NodePool) {
	return func(np *karpv1.NodePool) { np.Spec.Disruption.Budgets = b }
}

var unhealthyOnly = []karpv1.DisruptionReason{karpv1.DisruptionReasonUnhealthy}

// closedWindow is a budget of 0 that opens every midnight for a whole day: it is always in force.
func closedWindow() karpv1.Budget {
	return karpv1.Budget{Nodes: "0", Reasons: unhealthyOnly, Schedule: lo.ToPtr("0 0 * * *"), Duration: &metav1.Duration{Duration: 24 * time.Hour}}
}

// blocker is one reason for which a sick node is left alone.
type blocker struct {
	reason string
	// pool and policy override the defaults; after prepares the broken node before it breaks.
	pool   []any
	policy func(*v1alpha1.RepairPolicy)
	before func(*scenario, string)
}

var blockers = map[string]blocker{
	"budget-of-zero":   {reason: "DisruptionBudget", pool: []any{budgets(karpv1.Budget{Nodes: "0", Reasons: unhealthyOnly})}},
	"window-closed":    {reason: "DisruptionBudget", pool: []any{budgets(closedWindow())}},
	"invalid-schedule": {reason: "DisruptionBudgetInvalid", pool: []any{budgets(karpv1.Budget{Nodes: "1", Schedule: lo.ToPtr("99 99 * * *"), Duration: &metav1.Duration{Duration: time.Hour}})}},
	"veto": {reason: "Vetoed", before: func(s *scenario, node string) {
		require.NoError(s, s.c.Client.Patch(s.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}},
			client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"karpenter.sh/do-not-repair":"true"}}}`))))
	}},
	"veto-unreadable": {reason: "Vetoed", before: func(s *scenario, node string) {
		s.annotateNode(node, `{"autorepair.sh/do-not-repair":"tomorrow"}`)
	}},
	"pool-paused": {reason: "NodePoolPaused", before: func(s *scenario, _ string) {
		s.patch(cluster.NodePool(s.name), fmt.Sprintf(`{"metadata":{"annotations":{"autorepair.sh/pause":%q}}}`, stampIn(time.Hour)))
	}},
	"policy-paused": {reason: "Paused", policy: func(p *v1alpha1.RepairPolicy) { p.Spec.Mode = v1alpha1.ModePaused }},
	"policy-dryrun": {reason: "DryRun", policy: func(p *v1alpha1.RepairPolicy) { p.Spec.Mode = v1alpha1.ModeDryRun }},
	"tolerating":    {reason: "Tolerating", policy: func(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].Tolerate.Duration = time.Hour }},
	"no-rule": {reason: "NoPolicy", policy: func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Match = v1alpha1.FindingMatch{Categories: []v1alpha1.Category{v1alpha1.CategoryStorage}}
	}},
	"pool-at-limits": {reason: "NodePoolLimits", pool: []any{func(np *karpv1.NodePool) {
		np.Spec.Limits = karpv1.Limits{"nodes": resource.MustParse("1")}
	}}},
	"pool-not-ready": {reason: "NodePoolNotReady", before: func(s *scenario, _ string) {
		require.NoError(s, s.c.Client.Delete(s.ctx, cluster.NodeClass(s.name)))
		s.eventually("the NodePool is not ready", func() error {
			np := &karpv1.NodePool{}
			if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: s.name}, np); err != nil {
				return err
			}
			if np.StatusConditions().Root().IsTrue() {
				return fmt.Errorf("it is")
			}
			return nil
		})
	}},
	"pods-blocked-without-bound": {reason: "PodsNotDisruptable", policy: func(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].DrainBound = nil },
		before: func(s *scenario, _ string) {
			require.NoError(s, s.c.Create(s.ctx, cluster.PodDisruptionBudget(s.name, s.name, 1)))
			// The disruption controller of Kubernetes reckons what the budget allows; before that it allows nothing anyway.
		}},
	"static-pool": {reason: "NodePoolStatic", pool: []any{func(np *karpv1.NodePool) {
		np.Spec.Replicas = lo.ToPtr[int64](1)
		// For static nodes nobody else chooses these, and without them the provider cannot launch.
		np.Spec.Template.Spec.Requirements = append(np.Spec.Template.Spec.Requirements,
			karpv1.NodeSelectorRequirementWithMinValues{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"c-4x-amd64-linux"}},
			karpv1.NodeSelectorRequirementWithMinValues{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"test-zone-a"}})
	}}},
}

func TestABlockedNodeIsLeftAloneAndSaysWhy(t *testing.T) {
	for name, b := range blockers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t, "blocked-"+name)
			node := s.pool(1, b.pool...)[0].Name
			s.policy(lo.Ternary(b.policy != nil, b.policy, func(*v1alpha1.RepairPolicy) {}))
			if b.before != nil {
				b.before(s, node)
			}
			s.breakNode(node)
			s.blocked(node, b.reason)
			s.leftAlone(node)
			s.golden(name, node)
		})
	}
}

func TestAStandaloneNodeClaimIsLeftAloneAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := begin(t, "standalone")
	require.NoError(s, s.c.Create(s.ctx, cluster.NodeClass(s.name)))
	np := cluster.NodePool(s.name)
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{
		Name:   s.name,
		Labels: map[string]string{"test.autorepair.sh/standalone": "true"},
	}}
	claim.Spec.NodeClassRef = np.Spec.Template.Spec.NodeClassRef
	claim.Spec.ExpireAfter = np.Spec.Template.Spec.ExpireAfter
	claim.Spec.Requirements = append(np.Spec.Template.Spec.Requirements,
		karpv1.NodeSelectorRequirementWithMinValues{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"c-4x-amd64-linux"}},
		karpv1.NodeSelectorRequirementWithMinValues{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"test-zone-a"}},
	)
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	policy := cluster.RepairPolicy(s.name, func(p *v1alpha1.RepairPolicy) {
		p.Spec.NodeClaimSelector = &metav1.LabelSelector{MatchLabels: claim.Labels}
	})
	require.NoError(s, s.c.Create(s.ctx, policy, claim))
	s.Cleanup(func() { _ = s.c.Client.Delete(s.ctx, claim) })
	got := &karpv1.NodeClaim{}
	s.eventually("the NodeClaim is initialized", func() error {
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: s.name}, got); err != nil {
			return err
		}
		if !got.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	s.breakNode(got.Status.NodeName)
	s.eventually("the NodeClaim says that it stands alone", func() error {
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: s.name}, got); err != nil {
			return err
		}
		for _, condition := range got.Status.Conditions {
			if condition.Type == v1alpha1.ConditionRepairBlocked && condition.Reason == "Standalone" {
				return nil
			}
		}
		return fmt.Errorf("it says %v", got.Status.Conditions)
	})
	require.True(s, got.DeletionTimestamp.IsZero())
	s.goldenOf("standalone", got.Name, got.Status.NodeName)
}

func TestANodeWithoutAFaultIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := begin(t, "healthy")
	node := s.pool(1)[0].Name
	s.policy()
	require.Empty(t, s.condition(node, v1alpha1.ConditionRepairBlocked))
	require.Empty(t, s.condition(node, v1alpha1.ConditionUnhealthy))
	s.leftAlone(node)
}

func TestTwoPoliciesOfEqualWeightBlockEachOther(t *testing.T) {
	t.Parallel()
	s := begin(t, "equal-weight")
	node := s.pool(1)[0].Name
	s.policy()
	second := cluster.RepairPolicy(s.name, func(p *v1alpha1.RepairPolicy) { p.Name = s.name + "-second" })
	require.NoError(t, s.c.Create(s.ctx, second))
	t.Cleanup(func() { _ = s.c.Client.Delete(s.ctx, second) })
	s.breakNode(node)
	s.blocked(node, "PolicyConflict")
	s.leftAlone(node)
	require.Contains(t, s.condition(node, v1alpha1.ConditionRepairBlocked).Message, "have equal weight")
	require.NoError(t, s.c.Client.Delete(s.ctx, second))
	s.repairEnds(v1alpha1.PhaseSucceeded)
}

func TestAVetoLiftedLetsTheRepairStart(t *testing.T) {
	t.Parallel()
	s := begin(t, "veto-lifted")
	node := s.pool(1)[0].Name
	s.policy()
	blockers["veto"].before(s, node)
	s.breakNode(node)
	s.blocked(node, "Vetoed")
	require.NoError(t, s.c.Client.Patch(s.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}},
		client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"karpenter.sh/do-not-repair":null}}}`))))
	s.repairEnds(v1alpha1.PhaseSucceeded)
	s.settles(1)
}
