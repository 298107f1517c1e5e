package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// attach says that the volume of the scenario is attached to the node, as the attach controller would.
func (s *scenario) attach(node string) {
	attachment := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: storagev1.VolumeAttachmentSpec{
		Attacher: "test.autorepair.sh", NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &s.name},
	}}
	require.NoError(s, s.c.Create(s.ctx, attachment))
	s.Cleanup(func() { _ = s.c.Client.Delete(context.Background(), attachment) })
}

// takers are those who may take a node while it is being repaired.
var takers = map[string]func(*scenario, karpv1.NodeClaim){
	"a person deletes it": func(s *scenario, claim karpv1.NodeClaim) {
		require.NoError(s, client.IgnoreNotFound(s.c.Client.Delete(s.ctx, &claim)))
	},
	"Karpenter expires it": func(s *scenario, claim karpv1.NodeClaim) {
		// Expiration is a plain delete by Karpenter that honours no annotation; expireAfter cannot be changed on a
		// NodeClaim, so the test does what Karpenter's expiration does.
		require.NoError(s, client.IgnoreNotFound(s.c.Client.Delete(s.ctx, &claim, client.Preconditions{UID: &claim.UID})))
	},
	"it drifts": func(s *scenario, claim karpv1.NodeClaim) {
		require.NoError(s, client.IgnoreNotFound(s.c.Client.Patch(s.ctx, &claim, client.RawPatch("application/merge-patch+json",
			[]byte(`{"metadata":{"annotations":{"karpenter.sh/nodepool-hash":"1"}}}`)))))
	},
}

func TestKarpenterOrAPersonTakesTheNodeAtEveryPhase(t *testing.T) {
	phases := []v1alpha1.Phase{v1alpha1.PhaseCommitted, v1alpha1.PhaseFencing, v1alpha1.PhaseProvisioning, v1alpha1.PhaseWaiting, v1alpha1.PhaseTerminating}
	for who, take := range takers {
		for i, phase := range phases {
			t.Run(fmt.Sprintf("%s/%s", who, phase), func(t *testing.T) {
				t.Parallel()
				s := begin(t, fmt.Sprintf("take-%d-%d", lo.IndexOf([]string{"a person deletes it", "Karpenter expires it", "it drifts"}, who), i))
				node := s.pool(1)[0].Name
				claim := s.claim(node)
				s.policy()
				s.breakNode(node)
				// The phase itself may be too short to be seen; from it on is as good.
				s.reaches(append(phases[i:], v1alpha1.PhaseReleasing, v1alpha1.PhaseVerifying, v1alpha1.PhaseSucceeded)...)
				take(s, claim)
				s.gone(node)
				s.within(3*time.Minute, "the repair has ended", func() error {
					if repair := s.onlyRepair(); !repair.Finished() {
						return fmt.Errorf("it is %s: %s", repair.Status.Phase, repair.Status.Message)
					}
					return nil
				})
				require.NotEqual(t, v1alpha1.PhaseFailed, s.onlyRepair().Status.Phase, s.onlyRepair().Status.Message)
				s.settles(1)
			})
		}
	}
}

func TestStockKarpentersOwnRepairAndOursNeverBothAct(t *testing.T) {
	suite.Need(t)
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	c, err := cluster.Up(ctx, cluster.Options{Name: "e2e-own-repair", FeatureGates: "NodeRepair=true"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Down(context.Background())) })
	require.NoError(t, c.Install(ctx))
	own, err := c.StartController(ctx, "--node-conditions-config="+writeFile(t, kwokUnhealthy))
	require.NoError(t, err)
	t.Cleanup(func() { _ = own.Stop() })

	s := beginOn(t, c, "own-repair")
	nodes := s.pool(3)
	before := lo.Map(s.claims(), func(c karpv1.NodeClaim, _ int) string { return c.Name })
	// Karpenter's kwok provider repairs KWOKUnhealthy after 30 s; ours after 40 s, so that Karpenter would be first.
	s.policy(func(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].Tolerate.Duration = 40 * time.Second })
	fault := cluster.Fault
	fault.Type, fault.Status = "KWOKUnhealthy", "True"
	require.NoError(t, c.SetNodeCondition(ctx, nodes[0].Name, fault))
	s.repairEnds(v1alpha1.PhaseSucceeded)
	s.gone(nodes[0].Name)
	s.settles(3)
	made := lo.Reject(s.claims(), func(c karpv1.NodeClaim, _ int) bool { return lo.Contains(before, c.Name) })
	require.Len(t, made, 1, "exactly one replacement")
	require.NotEmpty(t, made[0].Labels[v1alpha1.NodeRepairLabel], "ours acted, not Karpenter's")
}

func TestARestartStartsNothingTwice(t *testing.T) {
	suite.Need(t)
	// Not parallel: it kills the controller of the other tests, between them.
	s := begin(t, "restart")
	nodes := s.pool(3)
	s.policy()
	s.breakNode(nodes[0].Name)
	s.repairEnds(v1alpha1.PhaseSucceeded) // one finished
	s.breakNode(nodes[1].Name)
	unfinished := s.reachesOther(s.repairs()[0].Name)
	controller.Kill()
	restarted, err := shared.StartController(s.ctx)
	require.NoError(t, err)
	controller = restarted
	s.repairsEnd(v1alpha1.PhaseSucceeded, 2)
	s.settles(3)
	repairs := s.repairs()
	require.Len(t, repairs, 2)
	require.True(t, lo.ContainsBy(repairs, func(r v1alpha1.NodeRepair) bool { return r.UID == unfinished.UID }), "the same NodeRepair continues")
	for _, repair := range repairs {
		require.Len(t, repair.Status.Replacements, 1)
	}
}

func (s *scenario) reachesOther(known string) v1alpha1.NodeRepair {
	var found v1alpha1.NodeRepair
	s.eventually("a second repair is at work", func() error {
		for _, repair := range s.repairs() {
			if repair.Name != known && lo.Contains([]v1alpha1.Phase{v1alpha1.PhaseProvisioning, v1alpha1.PhaseWaiting}, repair.Status.Phase) {
				found = repair
				return nil
			}
		}
		return fmt.Errorf("there is none")
	})
	return found
}
