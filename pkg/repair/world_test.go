package repair

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is an API with one sick node, its repair, and what Karpenter and the scheduler do of their own accord.
type world struct {
	t     *testing.T
	api   client.WithWatch
	clock *clocktesting.FakeClock
	found decision.Karpenter
	// idle keeps Karpenter from launching anything.
	idle bool
	// refills lets Karpenter keep the pool at one NodeClaim, as it does with static pools.
	refills bool
	// reboot is what becomes of a reboot that Karpenter is asked for.
	reboot rebootFate
}

// newWorld makes the world of one NodeRepair, which pods have to be moved for.
func newWorld(t *testing.T, more ...client.Object) *world {
	t.Helper()
	objects := append([]client.Object{sickPool(), sickClaim(), sickNode(), sickHealth(), anyPolicy(), movingPod("pod", "sick"), repairOfSick()}, more...)
	api := fakeapi.Builder().WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.NodeRepair{}, &karpv1.NodeClaim{}).
		WithIndex(&eventsv1.Event{}, "regarding.kind", func(o client.Object) []string { return []string{o.(*eventsv1.Event).Regarding.Kind} }).
		Build()
	clk := clocktesting.NewFakeClock(now)
	// As a real API server does.
	stamped := interceptor.NewClient(api, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			o.SetCreationTimestamp(metav1.NewTime(clk.Now()))
			o.SetUID(types.UID(o.GetName()))
			return c.Create(ctx, o, opts...)
		},
	})
	return &world{t: t, api: stamped, clock: clk, found: decision.Karpenter{Version: "1.15.0", HonoursDoNotRepair: true, RebootSupported: true}}
}

// executor begins anew, as after a restart. It writes through the client.
func (w *world) executor(writes client.Client) *Executor {
	found := func() decision.Karpenter { return w.found }
	return &Executor{
		Client: writes, Reader: w.api, Clock: w.clock, Recorder: events.NewFakeRecorder(10000),
		Snapshot: snapshot.NewGatherer(w.clock, w.api, found, true), Karpenter: found,
	}
}

// step takes one step of the repair as it stands in the API, then lets Karpenter act and time pass.
func (w *world) step(e *Executor) error {
	again, err := e.Step(context.Background(), w.repair())
	w.karpenter()
	w.clock.Step(min(max(again, time.Second), 10*time.Second))
	return err
}

// runs the repair to its end.
func (w *world) runs(e *Executor) *v1alpha1.NodeRepair {
	w.t.Helper()
	for range 200 {
		if repair := w.repair(); repair.Finished() {
			return repair
		}
		require.NoError(w.t, w.step(e))
	}
	require.FailNow(w.t, "the repair does not end", "phase %s: %s", w.repair().Status.Phase, w.repair().Status.Message)
	return nil
}

// reaches a phase, which is written then.
func (w *world) reaches(e *Executor, phase v1alpha1.Phase) *v1alpha1.NodeRepair {
	w.t.Helper()
	for range 200 {
		if repair := w.repair(); repair.Status.Phase == phase {
			return repair
		}
		require.NoError(w.t, w.step(e))
	}
	require.FailNow(w.t, "the phase is not reached", "%s instead of %s: %s", w.repair().Status.Phase, phase, w.repair().Status.Message)
	return nil
}

// karpenter does what Karpenter, the provider, the kubelet and the scheduler do to NodeClaims.
func (w *world) karpenter() {
	ctx := context.Background()
	if standing := lo.Reject(w.claims(), func(c karpv1.NodeClaim, _ int) bool { return !c.DeletionTimestamp.IsZero() }); w.refills && len(standing) == 0 {
		require.NoError(w.t, w.api.Create(ctx, &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("refill-%d", w.clock.Now().Unix()), Labels: map[string]string{karpv1.NodePoolLabelKey: "pool"},
		}}))
	}
	for _, claim := range w.claims() {
		switch {
		case !claim.DeletionTimestamp.IsZero():
			w.drains(claim)
		case Rebooting(&claim).IsTrue():
			w.reboots(claim)
		case w.idle:
		case !claim.StatusConditions().Get(karpv1.ConditionTypeLaunched).IsTrue():
			claim.Status.ProviderID = "fake://" + claim.Name
			setTrue(&claim, karpv1.ConditionTypeLaunched)
			require.NoError(w.t, w.api.Status().Update(ctx, &claim))
		case !claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue():
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + claim.Name, Labels: claim.Labels, Annotations: claim.Annotations}}
			node.Labels = lo.Assign(node.Labels, map[string]string{karpv1.NodeInitializedLabelKey: "true"})
			node.Spec.ProviderID = claim.Status.ProviderID
			require.NoError(w.t, client.IgnoreAlreadyExists(w.api.Create(ctx, node)))
			claim.Status.NodeName = node.Name
			setTrue(&claim, karpv1.ConditionTypeInitialized)
			require.NoError(w.t, w.api.Status().Update(ctx, &claim))
		}
	}
}

// drains moves the pods to any other node, and lets the NodeClaim and its Node go.
func (w *world) drains(claim karpv1.NodeClaim) {
	ctx := context.Background()
	target := ""
	for _, other := range w.claims() {
		if other.DeletionTimestamp.IsZero() && other.Status.NodeName != "" {
			target = other.Status.NodeName
		}
	}
	pods := &corev1.PodList{}
	require.NoError(w.t, w.api.List(ctx, pods))
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.Spec.NodeName == claim.Status.NodeName {
			require.NoError(w.t, w.api.Delete(ctx, pod))
			require.NoError(w.t, w.api.Create(ctx, movingPod(pod.Name+"x", target)))
		}
	}
	if claim.Status.NodeName != "" {
		require.NoError(w.t, client.IgnoreNotFound(w.api.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: claim.Status.NodeName}})))
	}
	claim.Finalizers = nil
	require.NoError(w.t, client.IgnoreNotFound(w.api.Update(ctx, &claim)))
}

func (w *world) claims() []karpv1.NodeClaim {
	list := &karpv1.NodeClaimList{}
	require.NoError(w.t, w.api.List(context.Background(), list))
	return list.Items
}

func (w *world) nodes() []corev1.Node {
	list := &corev1.NodeList{}
	require.NoError(w.t, w.api.List(context.Background(), list))
	return list.Items
}

func (w *world) repair() *v1alpha1.NodeRepair {
	repair := &v1alpha1.NodeRepair{}
	require.NoError(w.t, w.api.Get(context.Background(), client.ObjectKey{Name: "sick-1"}, repair))
	return repair
}

// change writes an object anew.
func (w *world) change(object client.Object, how func()) {
	w.t.Helper()
	require.NoError(w.t, w.api.Get(context.Background(), client.ObjectKeyFromObject(object), object))
	how()
	require.NoError(w.t, w.api.Update(context.Background(), object))
}

func (w *world) recovers() {
	health := sickHealth()
	w.change(health, func() { health.Findings = nil })
}

// noFenceIsLeft fails where a Node bears anything that a repair has put on it.
func (w *world) noFenceIsLeft() {
	w.t.Helper()
	for _, n := range w.nodes() {
		require.NotContains(w.t, n.Annotations, v1alpha1.FenceOwnerAnnotation, "Node %s", n.Name)
		require.NotContains(w.t, n.Annotations, v1alpha1.FenceRestoreAnnotation, "Node %s", n.Name)
		require.NotContains(w.t, n.Annotations, karpv1.DoNotDisruptAnnotationKey, "Node %s", n.Name)
		require.False(w.t, lo.SomeBy(n.Spec.Taints, isFence), "Node %s", n.Name)
		require.NotContains(w.t, n.Annotations, v1alpha1.RepairRequestAnnotation, "Node %s", n.Name)
	}
	for _, claim := range w.claims() {
		require.NotContains(w.t, claim.Annotations, karpv1.DoNotDisruptAnnotationKey, "NodeClaim %s", claim.Name)
		require.NotContains(w.t, claim.Annotations, karpv1.RebootTerminationGracePeriodAnnotationKey, "NodeClaim %s", claim.Name)
	}
}

func setTrue(claim *karpv1.NodeClaim, conditionType string) {
	claim.Status.Conditions = append(lo.Reject(claim.Status.Conditions, func(c status.Condition, _ int) bool { return c.Type == conditionType }),
		status.Condition{Type: conditionType, Status: metav1.ConditionTrue, Reason: conditionType, LastTransitionTime: metav1.NewTime(now)})
}

func sickPool() *karpv1.NodePool {
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool", UID: "pool"}}
	pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "example.com", Kind: "Class", Name: "class"}
	pool.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "1"}}
	for _, conditionType := range []string{karpv1.ConditionTypeValidationSucceeded, karpv1.ConditionTypeNodeClassReady, status.ConditionReady} {
		pool.Status.Conditions = append(pool.Status.Conditions, status.Condition{Type: conditionType, Status: metav1.ConditionTrue, Reason: conditionType, LastTransitionTime: metav1.NewTime(now)})
	}
	return pool
}

func sickClaim() *karpv1.NodeClaim {
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{
		Name: "sick", UID: "sick", Labels: map[string]string{karpv1.NodePoolLabelKey: "pool"}, Finalizers: []string{karpv1.TerminationFinalizer},
	}}
	claim.Status.ProviderID, claim.Status.NodeName = "fake://sick", "sick"
	for _, conditionType := range []string{karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized, v1alpha1.ConditionUnhealthy} {
		setTrue(claim, conditionType)
	}
	return claim
}

func sickNode() *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "sick", UID: "sick-node", Labels: map[string]string{
		karpv1.NodePoolLabelKey: "pool", karpv1.NodeInitializedLabelKey: "true", corev1.LabelTopologyZone: "zone-a",
	}, Annotations: map[string]string{"example.com/own": "kept"}}}
	n.Spec.ProviderID = "fake://sick"
	n.Status.NodeInfo.BootID = "boot-1"
	n.Status.Conditions = []corev1.NodeCondition{{Type: "KernelReady", Status: corev1.ConditionFalse}}
	return n
}

func sickHealth() *v1alpha1.NodeHealth {
	health := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: "sick"}}
	health.Sources = []v1alpha1.Source{{Name: "test", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}}}
	health.Findings = []v1alpha1.Finding{{
		Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal, Message: "stuck",
		Since: metav1.NewTime(now.Add(-time.Hour)), Count: 1,
	}}
	return health
}

func anyPolicy() *v1alpha1.RepairPolicy {
	policy := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}}
	policy.Spec.Rules = []v1alpha1.RepairRule{{
		Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: time.Minute},
		DrainBound: &metav1.Duration{Duration: 10 * time.Minute},
	}}
	return policy
}

func movingPod(name, node string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "app", UID: "app", Controller: lo.ToPtr(true)},
	}}}
	pod.Spec.NodeName = node
	pod.Status.Phase = corev1.PodRunning
	return pod
}

func repairOfSick() *v1alpha1.NodeRepair {
	repair := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "sick-1", UID: "repair", CreationTimestamp: metav1.NewTime(now)}}
	repair.Spec = v1alpha1.NodeRepairSpec{
		NodeClaim: v1alpha1.NodeClaimReference{Name: "sick", UID: "sick"}, NodeName: "sick", NodePool: "pool",
		Action: v1alpha1.ActionReplace, Replacements: 1, DrainBound: &metav1.Duration{Duration: 10 * time.Minute},
		Policy: v1alpha1.PolicyReference{Name: "policy", Rule: "all"},
		Cause:  v1alpha1.RepairCause{Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Source: "test", Since: metav1.NewTime(now.Add(-time.Hour))},
	}
	return repair
}

func (w *world) String() string {
	return fmt.Sprintf("phase %s: %s; %d NodeClaims", w.repair().Status.Phase, w.repair().Status.Message, len(w.claims()))
}
