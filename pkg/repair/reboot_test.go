package repair

import (
	"context"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// rebootFate is what becomes of a reboot.
type rebootFate string

const (
	comesBackWell  rebootFate = ""
	comesBackSick  rebootFate = "comes back sick"
	staysDraining  rebootFate = "a pod holds up the drain"
	refused        rebootFate = "the provider refuses, and Karpenter deletes the NodeClaim"
	invalid        rebootFate = "Karpenter finds the request invalid"
	notInitialized rebootFate = "comes back and is not Initialized"
)

// newRebootWorld is the world of one NodeRepair that reboots.
func newRebootWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.toReboot()
	return w
}

func (w *world) toReboot() {
	repair := w.repair()
	w.change(repair, func() {
		repair.Spec.Action, repair.Spec.Replacements = v1alpha1.ActionReboot, 0
		repair.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: time.Minute}
	})
}

// reboots does what Karpenter's reboot controller does, one turn at a time.
func (w *world) reboots(claim karpv1.NodeClaim) {
	ctx := context.Background()
	n := &corev1.Node{}
	require.NoError(w.t, w.api.Get(ctx, client.ObjectKey{Name: claim.Status.NodeName}, n))
	tainted := lo.ContainsBy(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == karpv1.RebootingTaintKey })
	switch condition := Rebooting(&claim); {
	case condition.Reason == karpv1.RebootReasonRequested && !tainted:
		n.Spec.Taints = append(n.Spec.Taints, karpv1.RebootingNoScheduleTaint)
		require.NoError(w.t, w.api.Update(ctx, n))
	case w.reboot == staysDraining:
	case w.reboot == refused:
		require.NoError(w.t, w.api.Delete(ctx, &claim))
	case w.reboot == invalid:
		w.rebootEnds(claim, n, karpv1.RebootReasonFailed)
	case condition.Reason == karpv1.RebootReasonRequested:
		require.NoError(w.t, client.IgnoreNotFound(w.api.Delete(ctx, movingPod("pod", "sick"))))
		delete(n.Labels, karpv1.NodeInitializedLabelKey)
		require.NoError(w.t, w.api.Update(ctx, n))
		n.Status.NodeInfo.BootID = "boot-2"
		require.NoError(w.t, w.api.Status().Update(ctx, n))
		setCondition(&claim, karpv1.ConditionTypeRebooting, metav1.ConditionTrue, karpv1.RebootReasonIssued)
		setCondition(&claim, karpv1.ConditionTypeInitialized, metav1.ConditionUnknown, karpv1.RebootReasonRebooting)
		require.NoError(w.t, w.api.Status().Update(ctx, &claim))
	default:
		w.rebootEnds(claim, n, karpv1.RebootReasonSucceeded)
		if w.reboot != notInitialized {
			w.initializes(n)
		}
	}
}

func (w *world) rebootEnds(claim karpv1.NodeClaim, n *corev1.Node, reason string) {
	n.Spec.Taints = lo.Reject(n.Spec.Taints, func(t corev1.Taint, _ int) bool { return t.Key == karpv1.RebootingTaintKey })
	require.NoError(w.t, w.api.Update(context.Background(), n))
	setCondition(&claim, karpv1.ConditionTypeRebooting, metav1.ConditionFalse, reason)
	if reason == karpv1.RebootReasonSucceeded && w.reboot != comesBackSick {
		w.recovers()
	}
	if reason == karpv1.RebootReasonSucceeded && w.reboot == notInitialized {
		w.idle = true
	}
	require.NoError(w.t, w.api.Status().Update(context.Background(), &claim))
}

// initializes is what the kubelet and Karpenter's lifecycle do, and the scheduler after them.
func (w *world) initializes(n *corev1.Node) {
	ctx := context.Background()
	require.NoError(w.t, w.api.Get(ctx, client.ObjectKeyFromObject(n), n))
	n.Labels[karpv1.NodeInitializedLabelKey] = "true"
	require.NoError(w.t, w.api.Update(ctx, n))
	claim := &karpv1.NodeClaim{}
	require.NoError(w.t, w.api.Get(ctx, client.ObjectKey{Name: "sick"}, claim))
	setCondition(claim, karpv1.ConditionTypeInitialized, metav1.ConditionTrue, karpv1.ConditionTypeInitialized)
	for i := range claim.Status.Conditions {
		claim.Status.Conditions[i].LastTransitionTime = metav1.NewTime(w.clock.Now())
	}
	require.NoError(w.t, w.api.Status().Update(ctx, claim))
	require.NoError(w.t, client.IgnoreAlreadyExists(w.api.Create(ctx, movingPod("podx", "sick"))))
}

func setCondition(claim *karpv1.NodeClaim, conditionType string, state metav1.ConditionStatus, reason string) {
	claim.Status.Conditions = append(lo.Reject(claim.Status.Conditions, func(c status.Condition, _ int) bool { return c.Type == conditionType }),
		status.Condition{Type: conditionType, Status: state, Reason: reason, Message: reason, LastTransitionTime: metav1.NewTime(now)})
}

func (w *world) sickClaim() *karpv1.NodeClaim {
	claim := &karpv1.NodeClaim{}
	require.NoError(w.t, w.api.Get(context.Background(), client.ObjectKey{Name: "sick"}, claim))
	return claim
}

func (w *world) sickNode() *corev1.Node {
	n := &corev1.Node{}
	require.NoError(w.t, w.api.Get(context.Background(), client.ObjectKey{Name: "sick"}, n))
	return n
}

// isRebooted says that the very same node stands, with another boot ID.
func (w *world) isRebooted() {
	w.t.Helper()
	claims := w.claims()
	require.Len(w.t, claims, 1, "nothing was launched")
	require.Equal(w.t, "sick", claims[0].Name)
	require.Equal(w.t, "boot-2", w.sickNode().Status.NodeInfo.BootID)
	require.Equal(w.t, "boot-1", w.repair().Status.Evidence.NodeInfo.BootID, "what it was before is kept")
	require.False(w.t, Rebooting(&claims[0]).IsTrue())
}

var rebootCourses = map[string]course{
	"a node is rebooted": {
		prepare: (*world).toReboot,
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
			rebooted := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionRebooted)
			require.Equal(w.t, `the boot ID of the node was "boot-1" and is "boot-2"`, rebooted.Message)
			require.Empty(w.t, repair.Status.Replacements)
			w.isRebooted()
		},
	},
	"a person asked for the reboot": {
		prepare: func(w *world) {
			w.toReboot()
			claim, n := sickClaim(), sickNode()
			w.change(claim, func() { claim.Annotations = map[string]string{v1alpha1.RepairRequestAnnotation: "Reboot"} })
			w.change(n, func() { n.Annotations[v1alpha1.RepairRequestAnnotation] = "Reboot" })
		},
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
			w.isRebooted()
			require.NotContains(w.t, w.sickClaim().Annotations, v1alpha1.RepairRequestAnnotation, "it must not be rebooted for ever")
		},
	},
	"a node recovers before Karpenter is asked": {
		prepare: func(w *world) {
			w.toReboot()
			w.found.OwnRepair = true // so that the fence stands for a while
		},
		once: v1alpha1.PhaseWaiting, during: (*world).recovers,
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseCanceled, repair.Status.Phase, repair.Status.Message)
			require.Nil(w.t, meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionRebooted), "so it is no attempt")
			require.Nil(w.t, Rebooting(w.sickClaim()))
			require.Equal(w.t, "boot-1", w.sickNode().Status.NodeInfo.BootID)
		},
	},
	"the provider refuses the reboot": {
		prepare: func(w *world) { w.toReboot(); w.reboot = refused },
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseFailed, repair.Status.Phase, repair.Status.Message)
			require.Contains(w.t, repair.Status.Message, "there is no replacement of ours")
			require.Empty(w.t, w.claims())
		},
	},
	"the reboot does not help": {
		prepare: func(w *world) {
			w.toReboot()
			w.reboot = comesBackSick
			claim := w.sickClaim()
			setCondition(claim, "autorepair.sh/KernelReady", metav1.ConditionFalse, "stuck")
			require.NoError(w.t, w.api.Status().Update(context.Background(), claim))
		},
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseFailed, repair.Status.Phase, repair.Status.Message)
			require.Equal(w.t, "the reboot did not help: stuck", repair.Status.Message)
			require.True(w.t, isTrue(repair, v1alpha1.RepairConditionRebooted))
			w.isRebooted()
		},
	},
}

func TestACrashAtAnyWriteOfARebootChangesNothingInTheEnd(t *testing.T) {
	crashEverywhere(t, rebootCourses)
}

func TestTheRequestIsTheOneThatKarpentersOwnRepairWrites(t *testing.T) {
	for name, bound := range map[string]*metav1.Duration{"bounded": {Duration: 10 * time.Minute}, "without a bound": nil} {
		t.Run(name, func(t *testing.T) {
			w := newRebootWorld(t)
			w.reboot = staysDraining
			repair, claim := w.repair(), sickClaim()
			w.change(repair, func() { repair.Spec.DrainBound = bound })
			w.change(claim, func() {
				claim.Annotations = map[string]string{karpv1.RebootTerminationGracePeriodAnnotationKey: "1h"} // an earlier reboot's
			})
			w.reaches(w.executor(w.api), v1alpha1.PhaseRebooting)
			claim = w.sickClaim()
			condition := Rebooting(claim)
			require.True(t, condition.IsTrue())
			require.Equal(t, karpv1.RebootReasonRequested, condition.Reason)
			require.Equal(t, "rebooting for KernelDeadlock, by NodeRepair sick-1", condition.Message)
			require.False(t, condition.LastTransitionTime.IsZero(), "Karpenter counts the drain from it")
			reason := claim.StatusConditions().Get(karpv1.ConditionTypeDisruptionReason)
			require.Equal(t, "Unhealthy", reason.Reason)
			require.True(t, reason.IsTrue())
			got, has := claim.Annotations[karpv1.RebootTerminationGracePeriodAnnotationKey]
			require.Equal(t, bound != nil, has)
			require.Equal(t, lo.Ternary(has, "10m0s", ""), got)
			require.NoError(t, w.step(w.executor(w.api)))
			require.NoError(t, w.step(w.executor(w.api)))
			want := "Karpenter drains the node before it is rebooted; PodDisruptionBudgets are honoured " + lo.Ternary(has, "until 2026-", "without end")
			require.Contains(t, w.repair().Status.Message, want)
			require.Contains(t, w.sickNode().Annotations, karpv1.DoNotDisruptAnnotationKey, "an empty node would be consolidated")
			require.False(t, lo.SomeBy(w.sickNode().Spec.Taints, isFence), "with it Karpenter would launch another node for the pods")
		})
	}
}

func TestARebootThatIsOnItsWayIsFollowedWhoeverAskedForIt(t *testing.T) {
	w := newRebootWorld(t)
	w.found.OwnRepair = true
	e := w.executor(w.api)
	w.reaches(e, v1alpha1.PhaseWaiting)
	claim := w.sickClaim()
	setCondition(claim, karpv1.ConditionTypeRebooting, metav1.ConditionTrue, karpv1.RebootReasonRequested)
	setCondition(claim, karpv1.ConditionTypeDisruptionReason, metav1.ConditionTrue, "Unhealthy")
	require.NoError(t, w.api.Status().Update(context.Background(), claim))
	require.Equal(t, v1alpha1.PhaseSucceeded, w.runs(e).Status.Phase)
	w.isRebooted()
	w.noFenceIsLeft()
}

func TestANodeThatKarpenterReplacesIsYieldedBeforeTheReboot(t *testing.T) {
	for name, take := range map[string]func(*world){
		"tainted": func(w *world) {
			n := sickNode()
			w.change(n, func() { n.Spec.Taints = append(n.Spec.Taints, karpv1.DisruptedNoScheduleTaint) })
		},
		"deleted": func(w *world) { require.NoError(w.t, w.api.Delete(context.Background(), sickClaim())) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newRebootWorld(t)
			w.found.OwnRepair = true
			e := w.executor(w.api)
			w.reaches(e, v1alpha1.PhaseWaiting)
			take(w)
			require.Equal(t, v1alpha1.PhaseYielded, w.runs(e).Status.Phase)
			w.noFenceIsLeft()
		})
	}
}

func TestANodeThatKarpenterRebootsIsNotReplacedBesides(t *testing.T) {
	w := newWorld(t)
	w.idle = true
	e := w.executor(w.api)
	w.reaches(e, v1alpha1.PhaseProvisioning)
	claim := w.sickClaim()
	setCondition(claim, karpv1.ConditionTypeRebooting, metav1.ConditionTrue, karpv1.RebootReasonRequested)
	require.NoError(t, w.api.Status().Update(context.Background(), claim))
	require.Equal(t, v1alpha1.PhaseYielded, w.runs(e).Status.Phase)
}

func TestAVetoBeforeTheRequestLetsTheNodeGoAndAfterItIsTold(t *testing.T) {
	veto := func(w *world) {
		n := sickNode()
		w.change(n, func() { n.Annotations[karpv1.DoNotRepairAnnotationKey] = "true" })
	}
	t.Run("before", func(t *testing.T) {
		w := newRebootWorld(t)
		w.found.OwnRepair, w.found.HonoursDoNotRepair = true, false // so that the fence stands, without the annotation
		e := w.executor(w.api)
		w.reaches(e, v1alpha1.PhaseWaiting)
		veto(w)
		repair := w.runs(e)
		require.Equal(t, v1alpha1.PhaseCanceled, repair.Status.Phase)
		require.Contains(t, repair.Status.Message, "Vetoed")
		require.Nil(t, Rebooting(w.sickClaim()))
		w.noFenceIsLeft()
	})
	t.Run("after", func(t *testing.T) {
		w := newRebootWorld(t)
		w.reboot = staysDraining
		e := w.executor(w.api)
		w.reaches(e, v1alpha1.PhaseRebooting)
		veto(w)
		require.NoError(t, w.step(e))
		require.NoError(t, w.step(e))
		require.Contains(t, w.repair().Status.Message, "It cannot be stopped any more: Vetoed: vetoed by annotation karpenter.sh/do-not-repair on Node sick")
		w.reboot = comesBackWell
		require.Equal(t, v1alpha1.PhaseSucceeded, w.runs(e).Status.Phase)
		require.Equal(t, "true", w.sickNode().Annotations[karpv1.DoNotRepairAnnotationKey], "the veto stays")
	})
}

func TestWhatKarpenterDoesNotTakeUpIsSaid(t *testing.T) {
	w := newRebootWorld(t)
	e := w.executor(w.api)
	w.reaches(e, v1alpha1.PhaseRebooting)
	n := sickNode()
	w.change(n, func() { n.Spec.Taints = nil }) // Karpenter has gone before its first step
	w.clock.Step(2 * time.Minute)
	_, err := e.Step(context.Background(), w.repair())
	require.NoError(t, err)
	require.Contains(t, w.repair().Status.Message, "is it running?")
}

func TestARequestThatWasWipedIsMadeAgain(t *testing.T) {
	w := newRebootWorld(t)
	w.reboot = staysDraining
	e := w.executor(w.api)
	w.reaches(e, v1alpha1.PhaseRebooting)
	claim := w.sickClaim()
	claim.Status.Conditions = lo.Reject(claim.Status.Conditions, func(c status.Condition, _ int) bool {
		return c.Type == karpv1.ConditionTypeRebooting || c.Type == karpv1.ConditionTypeDisruptionReason
	})
	require.NoError(t, w.api.Status().Update(context.Background(), claim))
	w.reboot = comesBackWell
	require.Equal(t, v1alpha1.PhaseSucceeded, w.runs(e).Status.Phase)
	w.isRebooted()
	w.noFenceIsLeft()
}

func TestARequestThatKarpenterFindsInvalidFailsAndLeavesTheNode(t *testing.T) {
	w := newRebootWorld(t)
	w.reboot = invalid
	repair := w.runs(w.executor(w.api))
	require.Equal(t, v1alpha1.PhaseFailed, repair.Status.Phase)
	require.Contains(t, repair.Status.Message, "Karpenter could not reboot the node: ")
	require.Len(t, w.claims(), 1)
	w.noFenceIsLeft()
}

func TestARebootedNodeThatIsNotInitializedAgainHoldsTheBudgetAndFails(t *testing.T) {
	w := newRebootWorld(t)
	w.reboot = notInitialized
	e := w.executor(w.api)
	for range 50 {
		if isTrue(w.repair(), v1alpha1.RepairConditionRebooted) {
			break
		}
		require.NoError(t, w.step(e))
	}
	require.True(t, isTrue(w.repair(), v1alpha1.RepairConditionRebooted))
	require.True(t, w.repair().HoldsBudget())
	require.Contains(t, w.repair().Status.Message, "waiting for it to be Initialized again, until ")
	repair := w.runs(e)
	require.Equal(t, v1alpha1.PhaseFailed, repair.Status.Phase)
	require.Contains(t, repair.Status.Message, "was not Initialized again until")
	w.noFenceIsLeft()
}

func TestAKarpenterThatCanNoLongerRebootIsNotAsked(t *testing.T) {
	w := newRebootWorld(t)
	w.found.RebootSupported = false
	repair := w.runs(w.executor(w.api))
	require.Equal(t, v1alpha1.PhaseCanceled, repair.Status.Phase, repair.Status.Message)
	require.Nil(t, Rebooting(w.sickClaim()))
	w.noFenceIsLeft()
}

func TestWhatTheAgentSaidOfTheBootBeforeIsWaitedFor(t *testing.T) {
	for name, test := range map[string]struct {
		bootID string
		want   time.Duration
	}{
		"it has not spoken of the new boot": {bootID: "boot-1", want: decision.AgentSpeaks},
		"it has":                            {bootID: "boot-2", want: decision.RebootSettles},
		"there is no agent":                 {want: decision.RebootSettles},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRebootWorld(t)
			claim := w.sickClaim()
			setCondition(claim, "autorepair.sh/KernelReady", metav1.ConditionFalse, "stuck")
			require.NoError(t, w.api.Status().Update(context.Background(), claim))
			e := w.executor(w.api)
			w.reaches(e, v1alpha1.PhaseVerifying)
			health := sickHealth()
			w.change(health, func() { health.BootID = test.bootID })
			began := w.clock.Now()
			repair := w.runs(e)
			require.Equal(t, v1alpha1.PhaseFailed, repair.Status.Phase)
			require.InDelta(t, test.want.Seconds(), w.clock.Since(began).Seconds(), 25)
		})
	}
	t.Run("and the watch begins when the last of it has gone", func(t *testing.T) {
		w := newRebootWorld(t)
		claim := w.sickClaim()
		setCondition(claim, "autorepair.sh/KernelReady", metav1.ConditionFalse, "stuck")
		require.NoError(t, w.api.Status().Update(context.Background(), claim))
		e := w.executor(w.api)
		w.reaches(e, v1alpha1.PhaseVerifying)
		for range 5 {
			require.NoError(t, w.step(e))
		}
		claim = w.sickClaim()
		setCondition(claim, "autorepair.sh/KernelReady", metav1.ConditionTrue, "KernelIsReady")
		require.NoError(t, w.api.Status().Update(context.Background(), claim))
		began := w.clock.Now()
		require.Equal(t, v1alpha1.PhaseSucceeded, w.runs(w.executor(w.api)).Status.Phase)
		require.GreaterOrEqual(t, w.clock.Since(began), time.Minute)
	})
}
