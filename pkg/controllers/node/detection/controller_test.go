package detection

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var (
	now     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ofNode  = reconcile.Request{NamespacedName: types.NamespacedName{Name: "node"}}
	ctx     = context.Background()
	stopped = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", LastTransitionTime: metav1.NewTime(now.Add(-time.Minute))}
)

// world is a controller on a fake API server, which counts what is applied.
type world struct {
	client.Client
	controller *Controller
	clock      *clocktesting.FakeClock
	events     chan string
	applies    int
	lists      map[string]int
	failApply  error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{clock: clocktesting.NewFakeClock(now), lists: map[string]int{}}
	w.Client = fakeapi.Builder().WithObjects(objects...).WithStatusSubresource(&corev1.Node{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				w.applies++
				if w.failApply != nil {
					return w.failApply
				}
				return c.Apply(ctx, o, opts...)
			},
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				w.lists[fmt.Sprintf("%T", list)]++
				return c.List(ctx, list, opts...)
			},
		}).Build()
	w.restart(t)
	return w
}

// restart gives a controller that remembers nothing.
func (w *world) restart(t *testing.T) {
	t.Helper()
	mappings, err := cluster.DefaultNodeConditions()
	require.NoError(t, err)
	recorder := events.NewFakeRecorder(10)
	w.events = recorder.Events
	w.controller = NewController(w.clock, w.Client, recorder, mappings)
}

func (w *world) reconcile(t *testing.T) reconcile.Result {
	t.Helper()
	result, err := w.controller.Reconcile(ctx, ofNode)
	require.NoError(t, err)
	return result
}

func (w *world) health(t *testing.T) *v1alpha1.NodeHealth {
	t.Helper()
	health := &v1alpha1.NodeHealth{}
	require.NoError(t, w.Get(ctx, ofNode.NamespacedName, health))
	return health
}

func (w *world) setReady(t *testing.T, condition corev1.NodeCondition) {
	t.Helper()
	node := &corev1.Node{}
	require.NoError(t, w.Get(ctx, ofNode.NamespacedName, node))
	node.Status.Conditions = []corev1.NodeCondition{condition}
	require.NoError(t, w.Status().Update(ctx, node))
}

func newNode(conditions ...corev1.NodeCondition) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: "node", UID: "node-uid", CreationTimestamp: metav1.NewTime(now.Add(-time.Hour)),
		Labels: map[string]string{karpv1.NodePoolLabelKey: "pool", karpv1.NodeRegisteredLabelKey: "true", karpv1.NodeInitializedLabelKey: "true"},
	}, Spec: corev1.NodeSpec{ProviderID: "p"}}
	node.Status.Conditions = conditions
	if len(conditions) == 0 {
		node.Status.Conditions = []corev1.NodeCondition{ready(corev1.ConditionTrue, now.Add(-time.Hour))}
	}
	return node
}

func ready(status corev1.ConditionStatus, transition time.Time) corev1.NodeCondition {
	return corev1.NodeCondition{Type: corev1.NodeReady, Status: status, Reason: "Reason", LastTransitionTime: metav1.NewTime(transition)}
}

func reasons(health *v1alpha1.NodeHealth) []string {
	var out []string
	for _, finding := range health.Findings {
		out = append(out, finding.Reason)
	}
	return out
}

func TestWhichNodesGetANodeHealth(t *testing.T) {
	foreign := newNode()
	foreign.Labels = nil
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim"}, Status: karpv1.NodeClaimStatus{ProviderID: "p", NodeName: "node"}}
	for name, test := range map[string]struct {
		objects []client.Object
		want    bool
	}{
		"a node of a NodePool":                    {objects: []client.Object{newNode()}, want: true},
		"a node with a NodeClaim and no NodePool": {objects: []client.Object{foreign.DeepCopy(), claim}, want: true},
		"a node that is not Karpenter's":          {objects: []client.Object{foreign.DeepCopy()}},
		"no node at all":                          {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.objects...)
			w.reconcile(t)
			err := w.Get(ctx, ofNode.NamespacedName, &v1alpha1.NodeHealth{})
			require.Equal(t, test.want, err == nil)
			require.Equal(t, !test.want, apierrors.IsNotFound(err))
		})
	}
}

func TestAHealthyNodeIsWrittenOnce(t *testing.T) {
	w := newWorld(t, newNode())
	for range 3 {
		require.Zero(t, w.reconcile(t))
		w.clock.Step(time.Minute)
	}
	require.Equal(t, 1, w.applies)
	health := w.health(t)
	require.Empty(t, health.Findings)
	require.Len(t, health.Sources, len(cluster.Sources))
	require.Equal(t, []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node", UID: "node-uid"}}, health.OwnerReferences)
	require.Zero(t, w.lists["*v1.LeaseList"], "leases matter only while a kubelet is silent")
}

func TestAFaultComesAndGoes(t *testing.T) {
	w := newWorld(t, newNode())
	w.reconcile(t)
	w.setReady(t, stopped)
	for range 3 {
		w.reconcile(t)
		w.clock.Step(time.Minute)
	}
	require.Equal(t, 2, w.applies, "a fault that stands is written once")
	require.Equal(t, []string{"NodeNotReady"}, reasons(w.health(t)))

	w.setReady(t, ready(corev1.ConditionTrue, w.clock.Now()))
	w.reconcile(t)
	require.Empty(t, w.health(t).Findings)
	require.Equal(t, 3, w.applies)
}

func TestARestartKeepsWhatStands(t *testing.T) {
	w := newWorld(t, newNode(stopped))
	w.reconcile(t)
	w.clock.Step(time.Hour)
	w.restart(t)
	w.setReady(t, ready(corev1.ConditionFalse, w.clock.Now())) // as a restarted API writer may do
	w.reconcile(t)
	require.True(t, stopped.LastTransitionTime.Equal(&w.health(t).Findings[0].Since))
}

func TestFlipsSurviveARestart(t *testing.T) {
	w := newWorld(t, newNode())
	w.reconcile(t)
	for i := range 4 {
		w.restart(t)
		w.clock.Step(time.Minute)
		state := corev1.ConditionFalse
		if i%2 == 1 {
			state = corev1.ConditionTrue
		}
		w.setReady(t, ready(state, w.clock.Now()))
		w.reconcile(t)
	}
	require.Equal(t, []string{"NodeReadinessFlapping"}, reasons(w.health(t)))
	require.Equal(t, 30*time.Minute, w.reconcile(t).RequeueAfter)
	w.clock.Step(30 * time.Minute)
	w.reconcile(t)
	require.Empty(t, w.health(t).Findings)
}

func TestAnotherNodeOfTheSameNameBeginsAnew(t *testing.T) {
	w := newWorld(t, newNode(stopped))
	w.reconcile(t)
	require.NoError(t, w.Delete(ctx, newNode()))
	next := newNode(ready(corev1.ConditionFalse, now.Add(time.Hour)))
	next.UID = "next-uid"
	require.NoError(t, w.Create(ctx, next))
	w.clock.Step(2 * time.Hour)
	w.reconcile(t)
	require.Equal(t, now.Add(time.Hour), w.health(t).Findings[0].Since.UTC())
	require.Equal(t, types.UID("next-uid"), w.health(t).OwnerReferences[0].UID)
}

func TestItLooksAgainAtTheNextDeadline(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "pod", Finalizers: []string{"example.com/wait"}, DeletionTimestamp: new(metav1.NewTime(now.Add(-time.Minute))),
	}, Spec: corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{Name: "c"}}}}
	other := pod.DeepCopy()
	other.Name, other.Spec.NodeName = "other", "other-node"
	other.DeletionTimestamp = new(metav1.NewTime(now.Add(-time.Hour)))
	w := newWorld(t, newNode(), pod, other)
	require.Equal(t, 9*time.Minute, w.reconcile(t).RequeueAfter)
	require.Empty(t, w.health(t).Findings)
	w.clock.Step(9 * time.Minute)
	require.Zero(t, w.reconcile(t).RequeueAfter)
	require.Equal(t, []string{"PodStuckTerminating"}, reasons(w.health(t)))
	require.Equal(t, "default/pod", w.health(t).Findings[0].Subject)
}

func TestMostLeasesExpired(t *testing.T) {
	lease := func(i int, age time.Duration) client.Object {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: fmt.Sprint("n", i)},
			Spec: coordinationv1.LeaseSpec{RenewTime: new(metav1.NewMicroTime(now.Add(-age))), LeaseDurationSeconds: new(int32(40))}}
	}
	silent := ready(corev1.ConditionUnknown, now.Add(-time.Minute))
	w := newWorld(t, newNode(silent), lease(0, time.Minute), lease(1, time.Minute), lease(2, 0))
	require.Equal(t, 30*time.Second, w.reconcile(t).RequeueAfter)
	require.Empty(t, w.health(t).Findings)
	for _, source := range w.health(t).Sources {
		require.Equal(t, source.Name == cluster.SourceKubelet, source.State == v1alpha1.SourceUnavailable, source.Name)
	}
	w.reconcile(t)
	require.Equal(t, 1, w.lists["*v1.LeaseList"], "one count serves many nodes")

	alive := &coordinationv1.Lease{}
	require.NoError(t, w.Get(ctx, types.NamespacedName{Namespace: corev1.NamespaceNodeLease, Name: "n1"}, alive))
	w.clock.Step(30 * time.Second)
	alive.Spec.RenewTime = new(metav1.NewMicroTime(w.clock.Now()))
	require.NoError(t, w.Update(ctx, alive))
	w.reconcile(t)
	require.Equal(t, []string{"NodeStatusUnknown"}, reasons(w.health(t)), "the others are back, and this one is not")
	require.True(t, silent.LastTransitionTime.Equal(&w.health(t).Findings[0].Since))
}

func TestAConflictIsALookAgain(t *testing.T) {
	w := newWorld(t, newNode(stopped))
	w.failApply = apierrors.NewConflict(schema.GroupResource{Resource: "nodehealths"}, "node", nil)
	require.Equal(t, afterConflict, w.reconcile(t).RequeueAfter)
	w.failApply = apierrors.NewInternalError(context.DeadlineExceeded)
	_, err := w.controller.Reconcile(ctx, ofNode)
	require.ErrorContains(t, err, "applying nodehealth")
}

func TestANodeHealthWithoutANode(t *testing.T) {
	health := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: "node", UID: "1"}}
	owned := health.DeepCopy()
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node", UID: "gone"}}
	for name, test := range map[string]struct {
		health *v1alpha1.NodeHealth
		want   int
	}{
		"made by hand, it is spoken of once":        {health: health, want: 1},
		"owned by a Node, it goes with it in peace": {health: owned},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.health.DeepCopy())
			for range 3 {
				w.reconcile(t)
			}
			require.Len(t, w.events, test.want)
			if test.want > 0 {
				require.Contains(t, <-w.events, "Warning NodeNotFound there is no Node node")
			}
			require.Zero(t, w.applies)
			w.health(t) // it is still there
		})
	}
}

func TestHeartbeatsAreLeftOut(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Node)
		want   bool
	}{
		"a heartbeat":               {change: func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(now) }},
		"images":                    {change: func(n *corev1.Node) { n.Status.Images = []corev1.ContainerImage{{}} }},
		"a status":                  {change: func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }, want: true},
		"a condition more":          {change: func(n *corev1.Node) { n.Status.Conditions = append(n.Status.Conditions, stopped) }, want: true},
		"a request":                 {change: func(n *corev1.Node) { n.Annotations = map[string]string{v1alpha1.RepairRequestAnnotation: ""} }, want: true},
		"an annotation of another":  {change: func(n *corev1.Node) { n.Annotations = map[string]string{"example.com/x": "y"} }},
		"the label of its NodePool": {change: func(n *corev1.Node) { n.Labels = nil }, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			after := newNode()
			test.change(after)
			require.Equal(t, test.want, nodeChanged().Update(event.UpdateEvent{ObjectOld: newNode(), ObjectNew: after}))
		})
	}
}

func TestANewNodeIsWrittenOnceItIsInitializedUnlessItIsSick(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Node)
		writes int
	}{
		"one that comes up": {change: func(*corev1.Node) {}},
		"one that is Initialized": {
			change: func(n *corev1.Node) { n.Labels[karpv1.NodeInitializedLabelKey] = "true" }, writes: 1,
		},
		"one that does not become Initialized for long": {
			change: func(n *corev1.Node) { n.CreationTimestamp = metav1.NewTime(now.Add(-comesUpWithin)) }, writes: 1,
		},
		"one that comes up sick": {
			change: func(n *corev1.Node) {
				n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: "KernelReady", Status: corev1.ConditionFalse, Reason: "KernelDeadlock"})
			}, writes: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
				Name: "new", UID: "new", Labels: map[string]string{karpv1.NodePoolLabelKey: "pool"}, CreationTimestamp: metav1.NewTime(now),
			}}
			test.change(n)
			w := newWorld(t, n)
			result, err := w.controller.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "new"}})
			require.NoError(t, err)
			require.Equal(t, test.writes, w.applies)
			if test.writes == 0 {
				require.Equal(t, comesUpWithin, result.RequeueAfter)
			}
		})
	}
}
