package e2e

import (
	"fmt"
	"testing"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func reboots(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].Action = v1alpha1.ActionReboot }

// rebootCures heals a node of the pool as soon as its boot ID is another, as a reboot does that helps.
func (s *scenario) rebootCures(node, before string) {
	s.Helper()
	s.eventually("Node "+node+" has booted anew", func() error {
		got := &corev1.Node{}
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: node}, got); err != nil {
			return err
		}
		if got.Status.NodeInfo.BootID == before {
			return fmt.Errorf("its boot ID is still %q", before)
		}
		return nil
	})
	s.heal(node)
}

// neverMoreRebootingThan keeps the number of nodes of the pool that Karpenter reboots at once, as long as the test runs.
func (s *scenario) neverMoreRebootingThan(limit int) {
	watch, err := s.c.Client.Watch(s.ctx, &karpv1.NodeClaimList{}, client.MatchingLabels{karpv1.NodePoolLabelKey: s.name})
	require.NoError(s, err)
	finished, busy := make(chan struct{}), map[string]bool{}
	go func() {
		defer close(finished)
		for event := range watch.ResultChan() {
			claim, ok := event.Object.(*karpv1.NodeClaim)
			if !ok {
				continue
			}
			delete(busy, claim.Name)
			if claim.StatusConditions().Get(karpv1.ConditionTypeRebooting).IsTrue() {
				busy[claim.Name] = true
			}
			if len(busy) > limit {
				s.Errorf("%d nodes reboot at once, the budget is %d", len(busy), limit)
			}
		}
	}()
	s.Cleanup(func() { watch.Stop(); <-finished })
}

func TestSickNodesAreRebootedOneAtATimeAndNothingIsLaunched(t *testing.T) {
	t.Parallel()
	s := begin(t, "reboot")
	nodes := s.pool(3, func(np *karpv1.NodePool) {
		// An empty node would be removed at once: a rebooted one is empty until its pods come back.
		np.Spec.Disruption.ConsolidateAfter = karpv1.MustParseNillableDuration("0s")
		np.Spec.Disruption.ConsolidationPolicy = karpv1.ConsolidationPolicyWhenEmpty
	})
	before := lo.SliceToMap(s.claims(), func(c karpv1.NodeClaim) (string, bool) { return c.Name, true })
	s.neverMoreRebootingThan(1)
	s.policy(reboots)
	for _, node := range nodes[:2] {
		s.breakNode(node.Name)
	}
	first := s.reaches(v1alpha1.PhaseRebooting).Spec.NodeName
	second := lo.Ternary(first == nodes[0].Name, nodes[1].Name, nodes[0].Name)
	s.rebootCures(first, lo.Ternary(first == nodes[0].Name, nodes[0], nodes[1]).Status.NodeInfo.BootID)
	s.rebootCures(second, lo.Ternary(second == nodes[0].Name, nodes[0], nodes[1]).Status.NodeInfo.BootID)
	s.repairsEnd(v1alpha1.PhaseSucceeded, 2)
	s.settles(3)
	for _, claim := range s.claims() {
		require.True(t, before[claim.Name], "NodeClaim %s was launched", claim.Name)
		require.NotContains(t, claim.Annotations, karpv1.RebootTerminationGracePeriodAnnotationKey)
	}
	for _, repair := range s.repairs() {
		require.Equal(t, v1alpha1.ActionReboot, repair.Spec.Action)
		for _, condition := range []string{v1alpha1.RepairConditionFenced, v1alpha1.RepairConditionRebooted, v1alpha1.RepairConditionReleased, v1alpha1.RepairConditionVerified} {
			require.True(t, meta.IsStatusConditionTrue(repair.Status.Conditions, condition), "condition %s", condition)
		}
		require.Empty(t, repair.Status.Replacements)
	}
}

func TestAPersonMayAskForARebootOnce(t *testing.T) {
	t.Parallel()
	s := begin(t, "asks-reboot")
	node := s.pool(1)[0].Name
	s.policy()
	s.annotateNode(node, `{"autorepair.sh/repair":"Reboot"}`)
	repair := s.repairEnds(v1alpha1.PhaseSucceeded)
	require.Equal(t, v1alpha1.ActionReboot, repair.Spec.Action)
	s.settles(1)
	require.Equal(t, node, s.readyNodes()[0].Name, "it is the same node")
	require.Len(t, s.repairs(), 1, "and it is not rebooted again")
}

func TestAHealthyNodeIsNotRebooted(t *testing.T) {
	t.Parallel()
	s := begin(t, "no-reboot")
	nodes := s.pool(1)
	s.policy(reboots)
	s.leftAlone(nodes[0].Name)
	require.Empty(t, s.repairs())
}
