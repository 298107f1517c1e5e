package repair

import (
	"context"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// terminatesFirst makes the repair one in which the node goes first; replicas of 0 leave the NodePool dynamic.
func (w *world) terminatesFirst(replicas int64) {
	repair := w.repair()
	w.change(repair, func() { repair.Spec.TerminateFirst = true })
	if replicas > 0 {
		pool := sickPool()
		w.change(pool, func() { pool.Spec.Replicas = &replicas })
	}
}

func verifiedReason(repair *v1alpha1.NodeRepair) string {
	condition := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionVerified)
	if condition == nil {
		return ""
	}
	return condition.Reason
}

func TestANodeThatGoesFirst(t *testing.T) {
	t.Run("makes no replacement of ours", func(t *testing.T) {
		w := newWorld(t)
		w.terminatesFirst(1)
		e := w.executor(w.api)
		repair := w.reaches(e, v1alpha1.PhaseTerminating)
		require.Empty(t, repair.Status.Replacements)
		require.Equal(t, terminateFirst, meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionProvisioned).Reason)
	})
	t.Run("holds the budget until the pool has been refilled", func(t *testing.T) {
		w := newWorld(t)
		w.terminatesFirst(1)
		e := w.executor(w.api)
		repair := w.reaches(e, v1alpha1.PhaseReleasing)
		require.True(t, repair.HoldsBudget())
		require.Contains(t, repair.Status.Message, "refill")
		w.refills = true
		repair = w.reaches(e, v1alpha1.PhaseVerifying)
		require.False(t, repair.HoldsBudget())
	})
	t.Run("has failed where the static pool is not refilled", func(t *testing.T) {
		w := newWorld(t)
		w.terminatesFirst(1)
		repair := w.runs(w.executor(w.api))
		require.Equal(t, v1alpha1.PhaseFailed, repair.Status.Phase)
		require.Equal(t, notRefilled, verifiedReason(repair))
		require.Contains(t, repair.Status.Message, "has not refilled")
	})
	t.Run("has failed where the refill comes up sick, and feeds the slow start so", func(t *testing.T) {
		w := newWorld(t)
		w.terminatesFirst(1)
		w.refills = true
		e := w.executor(w.api)
		w.reaches(e, v1alpha1.PhaseReleasing)
		for _, claim := range w.claims() {
			if claim.Name != "sick" {
				claim.StatusConditions().SetFalse("autorepair.sh/KernelReady", "KernelDeadlock", "stuck at birth")
				require.NoError(t, w.api.Status().Update(context.Background(), &claim))
			}
		}
		repair := w.runs(e)
		require.Equal(t, v1alpha1.PhaseFailed, repair.Status.Phase)
		require.Contains(t, repair.Status.Message, "stuck at birth")
		require.Len(t, w.claims(), 1, "Karpenter's own is never withdrawn by us")
	})
	t.Run("waits for the next refill where the first could not launch", func(t *testing.T) {
		w := newWorld(t)
		w.terminatesFirst(1)
		w.refills, w.idle = true, true
		e := w.executor(w.api)
		w.reaches(e, v1alpha1.PhaseReleasing)
		for current(w.repair()) == nil {
			require.NoError(t, w.step(e))
		}
		first := current(w.repair()).NodeClaim
		require.NoError(t, w.api.Delete(context.Background(), &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: first}}))
		w.idle = false
		repair := w.runs(e)
		require.Equal(t, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
		require.Len(t, repair.Status.Replacements, 2)
		require.NotNil(t, repair.Status.Replacements[0].WithdrawnAt)
	})
	t.Run("of a pool at its limits needs no refill where the pods found a place", func(t *testing.T) {
		w := newWorld(t)
		w.terminatesFirst(0)
		repair := w.runs(w.executor(w.api))
		require.Equal(t, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
		require.Equal(t, v1alpha1.VerifiedNotNeeded, verifiedReason(repair))
	})
	t.Run("of a pool at its limits is proved by the refill", func(t *testing.T) {
		w := newWorld(t)
		w.terminatesFirst(0)
		w.refills = true
		repair := w.runs(w.executor(w.api))
		require.Equal(t, v1alpha1.VerifiedHealthy, verifiedReason(repair))
	})
	t.Run("without a NodePool is not refilled", func(t *testing.T) {
		w := newWorld(t)
		w.terminatesFirst(0)
		repair := w.repair()
		w.change(repair, func() { repair.Spec.NodePool = "" })
		claim := sickClaim()
		w.change(claim, func() { claim.Labels = nil })
		repair = w.runs(w.executor(w.api))
		require.Equal(t, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
		require.Equal(t, v1alpha1.VerifiedNotNeeded, verifiedReason(repair))
		require.Empty(t, w.claims())
	})
}

// However often a replacement fails to launch, the node stays until one stands.
func TestAFailedLaunchNeverLetsTheNodeGoFirst(t *testing.T) {
	w := newWorld(t)
	policy := anyPolicy()
	w.change(policy, func() { policy.Spec.Replacement.Strategy = v1alpha1.StrategyTerminateFirstWhereNeeded })
	repair := w.repair()
	w.change(repair, func() { repair.Spec.Replacement.Strategy = v1alpha1.StrategyTerminateFirstWhereNeeded })
	w.idle = true
	repair = w.runs(w.executor(w.api))
	require.Equal(t, v1alpha1.PhaseFailed, repair.Status.Phase)
	require.Len(t, repair.Status.Replacements, 3)
	require.Equal(t, []string{"sick"}, lo.Map(w.claims(), func(c karpv1.NodeClaim, _ int) string { return c.Name }))
}

func TestTwoRepairsNeverWatchTheSameRefill(t *testing.T) {
	w := newWorld(t)
	w.terminatesFirst(2)
	e := w.executor(w.api)
	other := repairOfSick()
	other.Name, other.UID, other.Spec.TerminateFirst = "other-1", "other", true
	require.NoError(t, w.api.Create(context.Background(), &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{
		Name: "refill", Labels: map[string]string{karpv1.NodePoolLabelKey: "pool"},
	}}))
	for _, repair := range []*v1alpha1.NodeRepair{w.repair(), other} {
		e.setCondition(repair, v1alpha1.RepairConditionProvisioned, metav1.ConditionTrue, terminateFirst, "")
		_, err := e.adopt(context.Background(), repair)
		require.NoError(t, err)
		if repair == other {
			require.Nil(t, current(repair))
			continue
		}
		require.Equal(t, "refill", current(repair).NodeClaim)
	}
	// What came before the node was given up is nobody's refill.
	w.clock.Step(time.Minute)
	later := w.repair()
	later.UID = "later"
	e.setCondition(later, v1alpha1.RepairConditionProvisioned, metav1.ConditionTrue, terminateFirst, "")
	e.refills.taken = nil
	r, err := e.adopt(context.Background(), later)
	require.NoError(t, err)
	require.Nil(t, r)
}
