package conditions

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is an API with one NodeClaim, which has been sick for ten seconds under a policy that tolerates a minute.
type world struct {
	*Controller
	t      *testing.T
	api    client.WithWatch
	clock  *clocktesting.FakeClock
	events chan string
	writes int
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{t: t, clock: clocktesting.NewFakeClock(now)}
	w.api = fakeapi.Builder().WithObjects(objects...).WithStatusSubresource(&karpv1.NodeClaim{}).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourceApply: func(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
				w.writes++
				return c.SubResource(sub).Apply(ctx, o, opts...)
			},
		}).Build()
	recorder := events.NewFakeRecorder(100)
	w.events = recorder.Events
	w.Controller = NewController(w.clock, w.api, recorder, disruption.NewBoard(nil), make(chan event.GenericEvent))
	return w
}

func (w *world) look() reconcile.Result {
	w.t.Helper()
	result, err := w.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "claim"}})
	require.NoError(w.t, err)
	return result
}

// condition of the NodeClaim; zero where it is not there.
func (w *world) condition(conditionType string) metav1.Condition {
	w.t.Helper()
	got := &karpv1.NodeClaim{}
	require.NoError(w.t, w.api.Get(context.Background(), client.ObjectKey{Name: "claim"}, got))
	for _, c := range got.Status.Conditions {
		if c.Type == conditionType {
			return metav1.Condition(c)
		}
	}
	return metav1.Condition{}
}

func (w *world) told() []string {
	var out []string
	for {
		select {
		case line := <-w.events:
			out = append(out, line)
		default:
			return out
		}
	}
}

func claim(change ...func(*karpv1.NodeClaim)) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim", UID: "claim", CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))}}
	c.Status.NodeName = "node"
	c.Status.Conditions = []status.Condition{{Type: karpv1.ConditionTypeInitialized, Status: metav1.ConditionTrue, Reason: "Initialized", LastTransitionTime: metav1.NewTime(now)}}
	for _, f := range change {
		f(c)
	}
	return c
}

func nodeHealth(severity v1alpha1.Severity) *v1alpha1.NodeHealth {
	h := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: "node"}}
	h.Sources = []v1alpha1.Source{{Name: "test", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel, v1alpha1.CategoryStorage}}}
	if severity != "" {
		h.Findings = []v1alpha1.Finding{{
			Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: severity, Message: "stuck",
			Since: metav1.NewTime(now.Add(-10 * time.Second)),
		}}
	}
	return h
}

func policy() *v1alpha1.RepairPolicy {
	p := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy", UID: "policy"}}
	p.Spec.Rules = []v1alpha1.RepairRule{{Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: time.Minute}}}
	return p
}

func repairing(phase v1alpha1.Phase, message string) *v1alpha1.NodeRepair {
	r := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "claim-1", CreationTimestamp: metav1.NewTime(now)}}
	r.Spec.NodeClaim = v1alpha1.NodeClaimReference{Name: "claim", UID: "claim"}
	r.Status.Phase, r.Status.Message = phase, message
	return r
}

const kernelReady, storageReady = v1alpha1.Group + "/KernelReady", v1alpha1.Group + "/StorageReady"

func TestFactsAreToldAtOnceAndTheVerdictWhenTheTolerationEnds(t *testing.T) {
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityFatal), policy())
	result := w.look()
	require.Equal(t, metav1.ConditionFalse, w.condition(kernelReady).Status)
	require.Equal(t, "KernelDeadlock", w.condition(kernelReady).Reason)
	require.Equal(t, metav1.ConditionTrue, w.condition(storageReady).Status)
	require.Equal(t, "Tolerating", w.condition(v1alpha1.ConditionRepairBlocked).Reason)
	require.Empty(t, w.condition(v1alpha1.ConditionUnhealthy))
	require.Equal(t, 50*time.Second, result.RequeueAfter, "comes back when the toleration ends")
	w.clock.Step(50 * time.Second)
	w.look()
	require.Equal(t, "KernelDeadlock", w.condition(v1alpha1.ConditionUnhealthy).Reason)
	require.Empty(t, w.condition(v1alpha1.ConditionRepairBlocked))
	require.Equal(t, 2, w.writes)
}

func TestNothingIsWrittenWhereNothingHasChanged(t *testing.T) {
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityFatal), policy())
	w.look()
	w.clock.Step(10 * time.Second)
	w.look()
	require.Equal(t, 1, w.writes)
}

func TestConditionsThatSomebodyWipesComeBack(t *testing.T) {
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityFatal), policy())
	w.look()
	wiped := &karpv1.NodeClaim{}
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "claim"}, wiped))
	wiped.Status.Conditions = nil
	require.NoError(t, w.api.Status().Update(context.Background(), wiped))
	w.look()
	require.Equal(t, metav1.ConditionFalse, w.condition(kernelReady).Status)
}

func TestConditionsGoWhenNothingWatchesAnyMore(t *testing.T) {
	h := nodeHealth(v1alpha1.SeverityFatal)
	w := newWorld(t, claim(), h, policy())
	w.look()
	require.NoError(t, w.api.Delete(context.Background(), h))
	w.look()
	for _, conditionType := range []string{kernelReady, storageReady, v1alpha1.ConditionRepairBlocked} {
		require.Empty(t, w.condition(conditionType), conditionType)
	}
}

func TestAWarningIsAFactButNoVerdict(t *testing.T) {
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityWarning), policy())
	w.clock.Step(time.Hour)
	w.look()
	require.Empty(t, w.condition(v1alpha1.ConditionUnhealthy))
	require.Empty(t, w.condition(v1alpha1.ConditionRepairBlocked))
}

func TestStepsAreToldAtOnceAndInAStormInFewWrites(t *testing.T) {
	repair := repairing(v1alpha1.PhaseProvisioning, "0")
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityFatal), policy(), repair)
	w.clock.Step(time.Minute)
	w.look()
	says := func(message string) reconcile.Result {
		repair.Status.Message = message
		require.NoError(t, w.api.Update(context.Background(), repair))
		return w.look()
	}
	for i := range stepsBurst {
		message := fmt.Sprintf("step %d", i)
		says(message)
		require.Contains(t, w.condition(v1alpha1.ConditionRepairing).Message, message)
	}
	result := says("too many")
	require.NotContains(t, w.condition(v1alpha1.ConditionRepairing).Message, "too many")
	require.Equal(t, stepPause, result.RequeueAfter)

	h := nodeHealth(v1alpha1.SeverityFatal)
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "node"}, h))
	h.Findings = append(h.Findings, v1alpha1.Finding{Source: "test", Reason: "XFSShutdown", Category: v1alpha1.CategoryStorage, Severity: v1alpha1.SeverityFatal, Since: metav1.NewTime(now)})
	require.NoError(t, w.api.Update(context.Background(), h))
	w.look()
	require.Equal(t, metav1.ConditionFalse, w.condition(storageReady).Status, "a new fact does not wait")

	says("at last")
	w.clock.Step(stepPause)
	w.look()
	require.Contains(t, w.condition(v1alpha1.ConditionRepairing).Message, "at last")
}

func TestARepairWhoseFirstStepIsBeingTakenIsToldWithIt(t *testing.T) {
	repair := repairing("", "")
	repair.CreationTimestamp = metav1.NewTime(now.Add(time.Minute))
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityFatal), policy(), repair)
	w.clock.Step(time.Minute)
	require.Equal(t, stepPause, w.look().RequeueAfter)
	require.Zero(t, w.writes)
	w.clock.Step(stepPause)
	w.look()
	require.Equal(t, "Committed", w.condition(v1alpha1.ConditionRepairing).Reason, "the step takes long")
}

func TestWeKeepOutOfKarpentersWay(t *testing.T) {
	young := func(c *karpv1.NodeClaim) { c.Status.Conditions, c.CreationTimestamp = nil, metav1.NewTime(now) }
	going := func(c *karpv1.NodeClaim) {
		c.DeletionTimestamp, c.Finalizers = &metav1.Time{Time: now}, []string{karpv1.TerminationFinalizer}
	}
	for name, test := range map[string]struct {
		objects []client.Object
		pause   time.Duration
	}{
		"a NodeClaim that is launching, and healthy":         {objects: []client.Object{claim(young), nodeHealth("")}, pause: launchesWithin},
		"but not where it comes up sick":                     {objects: []client.Object{claim(young), nodeHealth(v1alpha1.SeverityFatal)}},
		"a NodeClaim that has been Initialized, and healthy": {objects: []client.Object{claim(), nodeHealth("")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, append(test.objects, policy())...)
			result := w.look()
			if test.pause == 0 {
				require.Equal(t, 1, w.writes)
				return
			}
			require.Zero(t, w.writes)
			require.Equal(t, test.pause, result.RequeueAfter)
			w.clock.Step(test.pause)
			w.look()
			require.Equal(t, 1, w.writes)
		})
	}
	t.Run("one whose Node is gone keeps what it says", func(t *testing.T) {
		w := newWorld(t, claim(going, func(c *karpv1.NodeClaim) {
			c.Status.Conditions = append(c.Status.Conditions, status.Condition{Type: v1alpha1.ConditionUnhealthy, Status: metav1.ConditionTrue})
		}), policy())
		w.clock.Step(time.Hour)
		w.look()
		require.Zero(t, w.writes)
	})
}
