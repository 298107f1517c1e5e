package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// stampIn gives the time in so long, as people write it.
func stampIn(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }

// pause stops everything, and gives how to go on.
func (s *scenario) pause(until string) (resume func()) {
	s.Helper()
	pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: v1alpha1.RepairPauseSpec{Until: until, Reason: "a test"}}
	require.NoError(s, s.c.Client.Create(s.ctx, pause))
	resume = func() { _ = client.IgnoreNotFound(s.c.Client.Delete(context.Background(), pause)) }
	s.Cleanup(resume)
	return resume
}

// Not parallel, as all tests here that stop everything: no other test's nodes would be repaired.
func TestAPauseOfAllStopsWithinASecond(t *testing.T) {
	s := begin(t, "pause-all")
	nodes := s.pool(3, budgets(karpv1.Budget{Nodes: "100%"}))
	s.policy()
	resume := s.pause("")
	time.Sleep(time.Second) // what the promise allows
	for _, node := range nodes {
		s.breakNode(node.Name)
	}
	for _, node := range nodes {
		s.blocked(node.Name, "AllPaused")
		s.leftAlone(node.Name)
	}
	message := s.condition(nodes[0].Name, v1alpha1.ConditionRepairBlocked).Message
	require.Contains(t, message, fmt.Sprintf(`all repairs are stopped by RepairPause %q, set by e2e.test`, s.name))
	require.Contains(t, message, "a test. To lift it: kubectl delete repairpause "+s.name)
	resume()
	s.repairsEnd(v1alpha1.PhaseSucceeded, 3)
	s.settles(3)
}

// A pass that is under way when somebody stops everything creates nothing more after a second.
func TestAPauseInTheMiddleOfAStormStartsNothingMore(t *testing.T) {
	s := begin(t, "pause-storm")
	nodes := s.pool(8, budgets(karpv1.Budget{Nodes: "100%"}))
	s.slowNodes(time.Minute)
	s.policy(func(p *v1alpha1.RepairPolicy) { p.Spec.Replacement.MaxLaunching = lo.ToPtr[int32](1) })
	for _, node := range nodes[:4] {
		s.breakNode(node.Name)
	}
	s.eventually("a repair is at work", func() error {
		if len(s.repairs()) == 0 {
			return fmt.Errorf("none is")
		}
		return nil
	})
	resume := s.pause("")
	time.Sleep(time.Second)
	committed := len(s.repairs())
	for _, node := range nodes[4:] {
		s.breakNode(node.Name)
	}
	s.holdsFor(5*time.Second, "nothing starts", func() error {
		if n := len(s.repairs()); n != committed {
			return fmt.Errorf("%d NodeRepairs instead of %d", n, committed)
		}
		return nil
	})
	s.eventually("what was fenced is let go, and its replacements withdrawn", func() error {
		for _, repair := range s.repairs() {
			if repair.Status.Phase != v1alpha1.PhaseCanceled {
				return fmt.Errorf("NodeRepair %s is %s", repair.Name, repair.Status.Phase)
			}
		}
		if n := len(s.claims()); n != 8 {
			return fmt.Errorf("there are %d NodeClaims", n)
		}
		return nil
	})
	for _, node := range nodes {
		got := &corev1.Node{}
		require.NoError(t, s.c.Client.Get(s.ctx, client.ObjectKey{Name: node.Name}, got))
		require.NotContains(t, got.Annotations, v1alpha1.FenceOwnerAnnotation)
		s.heal(node.Name)
	}
	resume()
	s.settles(8)
}

func TestAPauseOfAllLiftsItself(t *testing.T) {
	s := begin(t, "pause-ends")
	node := s.pool(1)[0].Name
	s.policy()
	s.pause(stampIn(15 * time.Second))
	s.breakNode(node)
	s.blocked(node, "AllPaused")
	s.repairEnds(v1alpha1.PhaseSucceeded)
	s.settles(1)
}

// Each stop of less than everything, written while the replacement of a node boots; undo lifts it.
var stopsMidway = map[string]struct{ stop, undo func(*scenario, string) }{
	"veto": {
		stop: func(s *scenario, node string) { s.annotateNode(node, `{"karpenter.sh/do-not-repair":"true"}`) },
		undo: func(s *scenario, node string) { s.annotateNode(node, `{"karpenter.sh/do-not-repair":null}`) },
	},
	"veto-with-end": {
		stop: func(s *scenario, node string) {
			s.annotateNode(node, fmt.Sprintf(`{"karpenter.sh/do-not-repair":"true","autorepair.sh/do-not-repair":%q}`, stampIn(20*time.Second)))
		},
	},
	"pool": {
		stop: func(s *scenario, _ string) {
			s.patch(cluster.NodePool(s.name), `{"metadata":{"annotations":{"autorepair.sh/pause":"true"}}}`)
		},
		undo: func(s *scenario, _ string) {
			s.patch(cluster.NodePool(s.name), `{"metadata":{"annotations":{"autorepair.sh/pause":null}}}`)
		},
	},
	"pool-with-end": {
		stop: func(s *scenario, _ string) {
			s.patch(cluster.NodePool(s.name), fmt.Sprintf(`{"metadata":{"annotations":{"autorepair.sh/pause":%q}}}`, stampIn(20*time.Second)))
		},
	},
	"policy": {
		stop: func(s *scenario, _ string) {
			s.patch(&v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: s.name}}, `{"spec":{"mode":"Paused"}}`)
		},
		undo: func(s *scenario, _ string) {
			s.patch(&v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: s.name}}, `{"spec":{"mode":"Enforce","pausedUntil":null}}`)
		},
	},
	"policy-with-end": {
		stop: func(s *scenario, _ string) {
			s.patch(&v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: s.name}}, fmt.Sprintf(`{"spec":{"mode":"Paused","pausedUntil":%q}}`, stampIn(20*time.Second)))
		},
	},
}

func TestAStopMidwayLetsTheNodeGoUntilItIsLifted(t *testing.T) {
	for name, stopping := range stopsMidway {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t, "midway-"+name)
			node := s.pool(1)[0].Name
			s.slowNodes(30 * time.Second)
			s.policy()
			s.breakNode(node)
			s.reaches(v1alpha1.PhaseProvisioning, v1alpha1.PhaseWaiting)
			stopping.stop(s, node)
			s.eventually("the repair is canceled, and the replacement withdrawn", func() error {
				if phase := s.onlyRepair().Status.Phase; phase != v1alpha1.PhaseCanceled {
					return fmt.Errorf("it is %s", phase)
				}
				if n := len(s.claims()); n != 1 {
					return fmt.Errorf("there are %d NodeClaims", n)
				}
				return nil
			})
			if stopping.undo != nil {
				stopping.undo(s, node)
			}
			s.eventually("a second repair replaces the node", func() error {
				if !lo.ContainsBy(s.repairs(), func(r v1alpha1.NodeRepair) bool { return r.Status.Phase == v1alpha1.PhaseSucceeded }) {
					return fmt.Errorf("there are %d NodeRepairs, none of which has succeeded", len(s.repairs()))
				}
				return nil
			})
			s.gone(node)
		})
	}
}

func TestWhatIsTerminatingSaysThatItCannotBeStopped(t *testing.T) {
	t.Parallel()
	s := begin(t, "too-late")
	node := s.pool(1)[0].Name
	// The budget of the pods holds the drain until the drain bound.
	require.NoError(t, s.c.Create(s.ctx, cluster.PodDisruptionBudget(s.name, s.name, 1)))
	s.policy(func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].DrainBound = &metav1.Duration{Duration: 30 * time.Second}
	})
	s.breakNode(node)
	s.reaches(v1alpha1.PhaseTerminating)
	s.patch(cluster.NodePool(s.name), `{"metadata":{"annotations":{"autorepair.sh/pause":"true"}}}`)
	s.eventually("the NodeClaim says that it is too late", func() error {
		message := s.condition(node, v1alpha1.ConditionRepairing).Message
		if !strings.Contains(message, "cannot be stopped any more") {
			return fmt.Errorf("it says %q", message)
		}
		return nil
	})
	s.repairEnds(v1alpha1.PhaseSucceeded)
	s.gone(node)
}

// A person's veto of a node with an end is taken away when it has come, so that Karpenter's own repair is free again too.
func TestAVetoWithAnEndIsTakenAwayFromAHealthyNodeToo(t *testing.T) {
	t.Parallel()
	s := begin(t, "veto-ends")
	node := s.pool(1)[0].Name
	s.annotateNode(node, fmt.Sprintf(`{"karpenter.sh/do-not-repair":"true","autorepair.sh/do-not-repair":%q}`, stampIn(5*time.Second)))
	s.eventually("both annotations are gone", func() error {
		got := &corev1.Node{}
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: node}, got); err != nil {
			return err
		}
		_, theirs := got.Annotations[karpv1.DoNotRepairAnnotationKey]
		_, ours := got.Annotations[v1alpha1.VetoAnnotation]
		if theirs || ours {
			return fmt.Errorf("the Node has %v", got.Annotations)
		}
		return nil
	})
}
