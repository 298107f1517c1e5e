package repair

import (
	"context"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestTheEvidenceOutlivesTheNode(t *testing.T) {
	event := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one", CreationTimestamp: metav1.NewTime(now)},
		Regarding:  corev1.ObjectReference{Kind: "Node", Name: "sick"}, Type: "Warning", Reason: "KernelOops", Note: "it hangs",
	}
	other := event.DeepCopy()
	other.Name, other.Regarding.Name = "other", "healthy"
	w := newWorld(t, event, other)
	evidence := w.runs(w.executor(w.api)).Status.Evidence
	require.Equal(t, []string{"2026-01-02T03:04:05Z Warning KernelOops: it hangs"}, evidence.Events)
	require.Equal(t, "KernelDeadlock", evidence.Findings[0].Reason)
	require.Equal(t, corev1.NodeConditionType("KernelReady"), evidence.NodeConditions[0].Type)
	require.Equal(t, "zone-a", evidence.Labels[corev1.LabelTopologyZone])
	require.Equal(t, []string{"default/pod"}, evidence.Pods)
	require.Equal(t, int32(1), evidence.ReschedulablePods)
}

// took gives the seconds from the fence to the delete where the replacement stands at once.
func took(t *testing.T, prepare func(*world)) time.Duration {
	t.Helper()
	w := newWorld(t)
	prepare(w)
	e := w.executor(w.api)
	for w.repair().Status.Phase != v1alpha1.PhaseTerminating { // a watch brings the repair back at every change
		_, err := e.Step(context.Background(), w.repair())
		require.NoError(t, err)
		if w.repair().Status.Phase != v1alpha1.PhaseTerminating {
			w.karpenter()
			w.clock.Step(time.Second)
		}
	}
	repair := w.repair()
	fence := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionFenced)
	deleted := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionTerminated)
	return deleted.LastTransitionTime.Sub(fence.LastTransitionTime.Time)
}

func TestAFencedNodeStandsAsLongAsKarpenterMayHaveItInHand(t *testing.T) {
	condition := func(conditionType string) func(*world) {
		return func(w *world) {
			claim := sickClaim()
			require.NoError(w.t, w.api.Get(context.Background(), client.ObjectKeyFromObject(claim), claim))
			setTrue(claim, conditionType)
			require.NoError(w.t, w.api.Status().Update(context.Background(), claim))
		}
	}
	require.Less(t, took(t, func(*world) {}), 5*time.Second, "neither drifted nor consolidatable")
	consolidatable := took(t, condition(karpv1.ConditionTypeConsolidatable))
	require.GreaterOrEqual(t, consolidatable, 5*time.Second)
	require.Less(t, consolidatable, 15*time.Second)
	require.GreaterOrEqual(t, took(t, condition(karpv1.ConditionTypeDrifted)), 15*time.Second)
	require.GreaterOrEqual(t, took(t, func(w *world) { w.found.OwnRepair = true }), 15*time.Second, "Karpenter repairs nodes itself")
}

func TestKarpentersOwnRepairIsKeptOffOnlyWhereItIsOn(t *testing.T) {
	for _, ownRepair := range []bool{false, true} {
		w := newWorld(t)
		w.idle, w.found.OwnRepair = true, ownRepair
		w.reaches(w.executor(w.api), v1alpha1.PhaseProvisioning)
		n := sickNode()
		require.NoError(t, w.api.Get(context.Background(), client.ObjectKeyFromObject(n), n))
		_, kept := n.Annotations[karpv1.DoNotRepairAnnotationKey]
		require.Equal(t, ownRepair, kept)
	}
}

func TestWhoeverTakesTheNodeFirstIsYieldedTo(t *testing.T) {
	t.Run("deleted before a replacement was made", func(t *testing.T) {
		w := newWorld(t)
		require.NoError(t, w.api.Delete(context.Background(), sickClaim()))
		require.Equal(t, v1alpha1.PhaseYielded, w.runs(w.executor(w.api)).Status.Phase)
		require.Empty(t, w.claims())
	})
	t.Run("deleted when a replacement was on its way, which takes the pods", func(t *testing.T) {
		w := newWorld(t)
		w.idle = true
		e := w.executor(w.api)
		w.reaches(e, v1alpha1.PhaseProvisioning)
		require.NoError(t, w.api.Delete(context.Background(), sickClaim()))
		w.idle = false
		require.Equal(t, v1alpha1.PhaseSucceeded, w.runs(e).Status.Phase)
		require.Len(t, w.claims(), 1)
		w.noFenceIsLeft()
	})
	t.Run("tainted by Karpenter before the delete", func(t *testing.T) {
		w := newWorld(t)
		w.idle = true
		e := w.executor(w.api)
		w.reaches(e, v1alpha1.PhaseProvisioning)
		n := sickNode()
		w.change(n, func() { n.Spec.Taints = append(n.Spec.Taints, karpv1.DisruptedNoScheduleTaint) })
		require.Equal(t, v1alpha1.PhaseYielded, w.runs(e).Status.Phase)
		claims := w.claims()
		require.Len(t, claims, 1, "the unused replacement is withdrawn")
		require.Equal(t, "sick", claims[0].Name)
		w.noFenceIsLeft()
	})
	t.Run("another NodeClaim of the same name is not ours", func(t *testing.T) {
		w := newWorld(t)
		repair := w.repair()
		w.change(repair, func() { repair.Spec.NodeClaim.UID = "an earlier one" })
		require.Equal(t, v1alpha1.PhaseYielded, w.runs(w.executor(w.api)).Status.Phase)
		require.Len(t, w.claims(), 1)
	})
}

func TestABudgetThatShrinksHoldsTheDeleteAndNotTheRepair(t *testing.T) {
	w := newWorld(t)
	e := w.executor(w.api)
	pool := sickPool()
	w.change(pool, func() { pool.Spec.Disruption.Budgets[0].Nodes = "0" })
	for range 30 {
		require.NoError(t, w.step(e))
	}
	repair := w.repair()
	require.Equal(t, v1alpha1.PhaseWaiting, repair.Status.Phase)
	require.Contains(t, repair.Status.Message, "DisruptionBudget")
	require.Len(t, w.claims(), 2, "the replacement waits, and the node stands")
	w.change(pool, func() { pool.Spec.Disruption.Budgets[0].Nodes = "1" })
	require.Equal(t, v1alpha1.PhaseSucceeded, w.runs(e).Status.Phase)
}

func TestAPersonsVetoMidwayLetsTheNodeGo(t *testing.T) {
	w := newWorld(t)
	w.idle = true
	e := w.executor(w.api)
	w.reaches(e, v1alpha1.PhaseProvisioning)
	n := sickNode()
	w.change(n, func() { n.Annotations[karpv1.DoNotRepairAnnotationKey] = "true" })
	repair := w.runs(e)
	require.Equal(t, v1alpha1.PhaseCanceled, repair.Status.Phase)
	require.Contains(t, repair.Status.Message, "Vetoed")
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKeyFromObject(n), n))
	require.Equal(t, "true", n.Annotations[karpv1.DoNotRepairAnnotationKey], "the veto stays")
	w.noFenceIsLeft()
}

func TestTheDrainIsBoundedAndNeverLoosened(t *testing.T) {
	for name, test := range map[string]struct {
		stands string
		want   func(deleted time.Time) string
	}{
		"the policy's bound":  {want: func(deleted time.Time) string { return deleted.Add(10 * time.Minute).Format(time.RFC3339) }},
		"an earlier deadline": {stands: now.Add(time.Minute).Format(time.RFC3339), want: func(time.Time) string { return now.Add(time.Minute).Format(time.RFC3339) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			claim := sickClaim()
			if test.stands != "" {
				w.change(claim, func() {
					claim.Annotations = map[string]string{karpv1.NodeClaimTerminationTimestampAnnotationKey: test.stands}
				})
			}
			e := w.executor(w.api)
			for w.repair().Status.Phase != v1alpha1.PhaseTerminating {
				again, err := e.Step(context.Background(), w.repair())
				require.NoError(t, err)
				if w.repair().Status.Phase != v1alpha1.PhaseTerminating {
					w.karpenter() // which would have drained the node already
				}
				w.clock.Step(max(again, time.Second))
			}
			require.NoError(t, w.api.Get(context.Background(), client.ObjectKeyFromObject(claim), claim))
			require.False(t, claim.DeletionTimestamp.IsZero())
			_, err := e.Step(context.Background(), w.repair())
			require.NoError(t, err)
			require.NoError(t, w.api.Get(context.Background(), client.ObjectKeyFromObject(claim), claim))
			require.Equal(t, test.want(claim.DeletionTimestamp.UTC()), claim.Annotations[karpv1.NodeClaimTerminationTimestampAnnotationKey])
		})
	}
}

func TestNoMoreThanAFewReplacementsAreUnlaunchedAtOnce(t *testing.T) {
	others := lo.Times(5, func(i int) client.Object {
		return &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{
			Name: string(rune('a' + i)), Labels: map[string]string{v1alpha1.NodeRepairLabel: "other", karpv1.NodePoolLabelKey: "pool"},
		}}
	})
	w := newWorld(t, others...)
	w.idle = true
	e := w.executor(w.api)
	for range 5 {
		require.NoError(t, w.step(e))
	}
	require.Len(t, w.claims(), 6, "the sick one and the five that are unlaunched already")
	require.Contains(t, w.repair().Status.Message, "until fewer replacements are unlaunched")
	launched := others[0].(*karpv1.NodeClaim)
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKeyFromObject(launched), launched))
	setTrue(launched, karpv1.ConditionTypeLaunched)
	require.NoError(t, w.api.Status().Update(context.Background(), launched))
	require.NoError(t, w.step(e))
	require.Len(t, w.claims(), 7)
}

func TestAReplacementThatComesUpSickIsWithdrawnAndAnotherIsMade(t *testing.T) {
	w := newWorld(t)
	e := w.executor(w.api)
	repair := w.reaches(e, v1alpha1.PhaseWaiting)
	first := repair.Status.Replacements[0].NodeClaim
	claim := &karpv1.NodeClaim{}
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: first}, claim))
	claim.StatusConditions().SetFalse("autorepair.sh/KernelReady", "KernelDeadlock", "stuck at birth")
	require.NoError(t, w.api.Status().Update(context.Background(), claim))
	repair = w.runs(e)
	require.Equal(t, v1alpha1.PhaseSucceeded, repair.Status.Phase)
	require.Len(t, repair.Status.Replacements, 2)
	require.Contains(t, repair.Status.Replacements[0].Message, "stuck at birth")
	require.NotEqual(t, first, repair.Status.Replacements[1].NodeClaim)
	require.Len(t, w.claims(), 1)
}

func TestAReplacementThatTurnsSickWhileWatchedIsAFailedRepair(t *testing.T) {
	w := newWorld(t)
	e := w.executor(w.api)
	repair := w.reaches(e, v1alpha1.PhaseVerifying)
	claim := &karpv1.NodeClaim{}
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: repair.Status.Replacements[0].NodeClaim}, claim))
	claim.StatusConditions().SetFalse("autorepair.sh/KernelReady", "KernelDeadlock", "stuck again")
	require.NoError(t, w.api.Status().Update(context.Background(), claim))
	repair = w.runs(e)
	require.Equal(t, v1alpha1.PhaseFailed, repair.Status.Phase)
	require.Contains(t, repair.Status.Message, "stuck again")
	require.Len(t, w.claims(), 1, "the replacement stays: the node is gone")
}

func TestAFailedRequestIsNotTriedForEver(t *testing.T) {
	w := newWorld(t)
	claim, n := sickClaim(), sickNode()
	ask := map[string]string{v1alpha1.RepairRequestAnnotation: "Replace"}
	w.change(claim, func() { claim.Annotations = ask })
	w.change(n, func() { n.Annotations = lo.Assign(n.Annotations, ask) })
	w.idle = true
	require.Equal(t, v1alpha1.PhaseFailed, w.runs(w.executor(w.api)).Status.Phase)
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKeyFromObject(claim), claim))
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKeyFromObject(n), n))
	require.NotContains(t, claim.Annotations, v1alpha1.RepairRequestAnnotation)
	require.NotContains(t, n.Annotations, v1alpha1.RepairRequestAnnotation)
}

func TestAnActionThatCannotBeCarriedOutFailsAndSaysWhatToWrite(t *testing.T) {
	w := newWorld(t)
	repair := w.repair()
	w.change(repair, func() { repair.Spec.Action = v1alpha1.ActionNone })
	repair = w.runs(w.executor(w.api))
	require.Equal(t, v1alpha1.PhaseFailed, repair.Status.Phase)
	require.Contains(t, repair.Status.Message, "action: Replace")
	require.Len(t, w.claims(), 1)
}

func TestAPhaseOfANewerVersionIsLeftAloneWithAnError(t *testing.T) {
	w := newWorld(t)
	repair := w.repair()
	repair.Status.Phase = "Tomorrow"
	require.NoError(t, w.api.Status().Update(context.Background(), repair))
	require.ErrorContains(t, w.step(w.executor(w.api)), `phase "Tomorrow"`)
	require.Equal(t, v1alpha1.Phase("Tomorrow"), w.repair().Status.Phase)
}

func TestEachTurnIsToldOnceToWhoeverItConcerns(t *testing.T) {
	w := newWorld(t)
	e := w.executor(w.api)
	told := &teller{}
	e.Recorder = told
	var written []v1alpha1.Phase
	e.Written = func(_, after *v1alpha1.NodeRepair) { written = append(written, after.Status.Phase) }
	w.runs(e)
	require.Equal(t, []string{
		"RepairStarted on Node", "RepairStarted on NodePool", "RepairProvisioning on NodeClaim", "RepairWaiting on NodeClaim",
		"RepairTerminating on NodeClaim", "RepairTerminating on Node", "RepairVerifying on NodeClaim",
		"RepairSucceeded on NodeClaim", "RepairSucceeded on NodePool",
	}, told.lines)
	require.Equal(t, v1alpha1.PhaseSucceeded, written[len(written)-1])
}

// teller writes down what is told of which kind of object.
type teller struct{ lines []string }

func (t *teller) Eventf(regarding, _ runtime.Object, _, reason, _, _ string, _ ...any) {
	t.lines = append(t.lines, reason+" on "+regarding.GetObjectKind().GroupVersionKind().Kind)
}

func TestANodeGoesWhenTheLaunchesOfOthersAreDone(t *testing.T) {
	other := repairOfSick()
	other.Name, other.UID, other.Spec.NodeClaim.Name, other.Spec.NodeClaim.UID = "other-1", "other", "other", "other"
	other.Status.Phase = v1alpha1.PhaseProvisioning
	withOther := func(change func()) *world {
		if change != nil {
			change()
		}
		w := newWorld(t, other.DeepCopy())
		pool := sickPool()
		w.change(pool, func() { pool.Spec.Disruption.Budgets[0].Nodes = "10" })
		return w
	}
	wait := func(w *world) time.Duration {
		e, began := w.executor(w.api), w.clock.Now()
		for w.repair().Status.Phase != v1alpha1.PhaseTerminating && w.clock.Since(began) < time.Minute {
			_, err := e.Step(context.Background(), w.repair())
			require.NoError(t, err)
			if w.repair().Status.Phase == v1alpha1.PhaseTerminating {
				break
			}
			w.karpenter()
			w.clock.Step(time.Second)
		}
		return w.clock.Since(began)
	}
	held := wait(withOther(nil))
	require.GreaterOrEqual(t, held, launchesFirst)
	require.Less(t, held, launchesFirst+5*time.Second, "but not for ever")
	require.Less(t, wait(withOther(func() { other.Status.NextAttemptAt = lo.ToPtr(metav1.NewTime(now.Add(time.Hour))) })), 5*time.Second, "one that backs off holds up nobody")
	require.Less(t, wait(withOther(func() { other.Status.NextAttemptAt, other.Status.Phase = nil, v1alpha1.PhaseWaiting })), 5*time.Second)
}
