package cleanup

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var (
	now      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	leaseKey = client.ObjectKey{Namespace: "autorepair", Name: "autorepair-controller"}
)

func node(annotations map[string]string, taints ...corev1.Taint) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Annotations: annotations}}
	n.Spec.Taints = taints
	return n
}

func claim(conditions ...string) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim", UID: "claim"}}
	c.Status.NodeName = "node"
	for _, t := range conditions {
		c.Status.Conditions = append(c.Status.Conditions, status.Condition{Type: t, Status: metav1.ConditionTrue, Reason: "A", LastTransitionTime: metav1.NewTime(now)})
	}
	return c
}

func nodeRepair(phase v1alpha1.Phase) *v1alpha1.NodeRepair {
	r := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "repair", UID: "repair"}}
	r.Status.Phase = phase
	return r
}

func lease(holder string, renewed time.Time) *coordinationv1.Lease {
	at := metav1.NewMicroTime(renewed)
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: leaseKey.Namespace, Name: leaseKey.Name}, Spec: coordinationv1.LeaseSpec{
		HolderIdentity: ptr.To(holder), LeaseDurationSeconds: ptr.To[int32](15), RenewTime: &at,
	}}
}

// clean runs the cleaner to its end, with a clock that jumps to whatever is waited for, and gives how long it took.
func clean(t *testing.T, api client.WithWatch) (took time.Duration) {
	t.Helper()
	clk := clocktesting.NewFakeClock(now)
	done := make(chan error, 1)
	go func() {
		c := &Cleaner{Client: api, Clock: clk, Lease: leaseKey, Grace: time.Minute}
		done <- c.Run(context.Background())
	}()
	for {
		select {
		case err := <-done:
			require.NoError(t, err)
			return clk.Since(now)
		case <-time.After(time.Millisecond):
			if clk.HasWaiters() {
				clk.Step(look)
			}
		}
	}
}

func world(objects ...client.Object) client.WithWatch {
	return fakeapi.Builder().WithObjects(objects...).WithStatusSubresource(&v1alpha1.NodeRepair{}, &karpv1.NodeClaim{}).Build()
}

func get[T client.Object](t *testing.T, api client.Client, object T, key client.ObjectKey) T {
	t.Helper()
	require.NoError(t, api.Get(context.Background(), key, object))
	return object
}

func TestNothingOfOursStaysOnANode(t *testing.T) {
	own := corev1.Taint{Key: "own", Effect: corev1.TaintEffectNoSchedule}
	for name, test := range map[string]struct {
		node *corev1.Node
		want map[string]string
	}{
		"a fence goes": {
			node: node(map[string]string{
				v1alpha1.FenceOwnerAnnotation: "repair", v1alpha1.FenceRestoreAnnotation: `{"karpenter.sh/do-not-disrupt":null}`,
				karpv1.DoNotDisruptAnnotationKey: "true", "own": "kept",
			}, v1alpha1.UnhealthyTaint, own),
			want: map[string]string{"own": "kept"},
		},
		"what stood before the fence comes back": {
			node: node(map[string]string{
				v1alpha1.FenceOwnerAnnotation: "repair", v1alpha1.FenceRestoreAnnotation: `{"karpenter.sh/do-not-disrupt":"5m"}`,
				karpv1.DoNotDisruptAnnotationKey: "true",
			}, v1alpha1.UnhealthyTaint, own),
			want: map[string]string{karpv1.DoNotDisruptAnnotationKey: "5m"},
		},
		"a guard that stood before the fence goes too": {
			node: node(map[string]string{
				v1alpha1.FenceOwnerAnnotation: "repair", v1alpha1.FenceRestoreAnnotation: `{"karpenter.sh/do-not-repair":"true"}`,
				v1alpha1.GuardedAnnotation: "true", karpv1.DoNotRepairAnnotationKey: "true",
			}, v1alpha1.UnhealthyTaint, own),
			want: map[string]string{},
		},
		"a guard goes": {
			node: node(map[string]string{v1alpha1.GuardedAnnotation: "true", karpv1.DoNotRepairAnnotationKey: "true", "own": "kept"}, own),
			want: map[string]string{"own": "kept"},
		},
		"a taint without its annotations goes": {
			node: node(map[string]string{"own": "kept"}, own, v1alpha1.UnhealthyTaint),
			want: map[string]string{"own": "kept"},
		},
		"what people have written stays": {
			node: node(map[string]string{karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.VetoAnnotation: "true", karpv1.DoNotDisruptAnnotationKey: "true"}, own),
			want: map[string]string{karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.VetoAnnotation: "true", karpv1.DoNotDisruptAnnotationKey: "true"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.node.Labels = map[string]string{v1alpha1.NodeRepairLabel: "repair", "own": "kept"}
			api := world(test.node, nodeRepair(v1alpha1.PhaseWaiting))
			clean(t, api)
			got := get(t, api, &corev1.Node{}, client.ObjectKey{Name: "node"})
			if len(test.want) == 0 {
				require.Empty(t, got.Annotations)
			} else {
				require.Equal(t, test.want, got.Annotations)
			}
			require.Equal(t, []corev1.Taint{own}, got.Spec.Taints)
			require.Equal(t, map[string]string{"own": "kept"}, got.Labels)
		})
	}
}

func TestOurConditionsGoFromANodeClaimAndThoseOfOthersStay(t *testing.T) {
	api := world(claim(karpv1.ConditionTypeInitialized, v1alpha1.ConditionUnhealthy, v1alpha1.ConditionRepairing, "KernelReady"))
	clean(t, api)
	got := get(t, api, &karpv1.NodeClaim{}, client.ObjectKey{Name: "claim"})
	require.Len(t, got.Status.Conditions, 2)
	require.Equal(t, karpv1.ConditionTypeInitialized, got.Status.Conditions[0].Type)
	require.Equal(t, "KernelReady", got.Status.Conditions[1].Type)
}

func TestObjectsWithNothingOfOursAreNotWritten(t *testing.T) {
	api := interceptor.NewClient(world(node(nil), claim(karpv1.ConditionTypeInitialized)), interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return errors.New("must not be written")
		},
		SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
			return errors.New("must not be written")
		},
	})
	clean(t, api)
}

func TestAReplacementIsANodeLikeAnyOther(t *testing.T) {
	replacement, n := claim(), node(map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"})
	replacement.Labels = map[string]string{v1alpha1.NodeRepairLabel: "repair", karpv1.NodePoolLabelKey: "pool"}
	replacement.Annotations = map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"}
	api := world(replacement, n)
	clean(t, api)
	got := get(t, api, &karpv1.NodeClaim{}, client.ObjectKey{Name: "claim"})
	require.NotContains(t, got.Annotations, karpv1.DoNotDisruptAnnotationKey)
	require.NotContains(t, got.Labels, v1alpha1.NodeRepairLabel)
	require.NotContains(t, get(t, api, &corev1.Node{}, client.ObjectKey{Name: "node"}).Annotations, karpv1.DoNotDisruptAnnotationKey)
}

func TestRepairsEndAndTheirHistoryStays(t *testing.T) {
	for phase, want := range map[v1alpha1.Phase]struct {
		phase   v1alpha1.Phase
		message string
	}{
		v1alpha1.PhaseWaiting:     {v1alpha1.PhaseCanceled, "before the node was terminated"},
		v1alpha1.PhaseTerminating: {v1alpha1.PhaseCanceled, "uninstalled in phase Terminating"},
		v1alpha1.PhaseVerifying:   {v1alpha1.PhaseCanceled, "uninstalled in phase Verifying"},
		v1alpha1.PhaseSucceeded:   {v1alpha1.PhaseSucceeded, ""},
		v1alpha1.PhaseFailed:      {v1alpha1.PhaseFailed, ""},
	} {
		t.Run(string(phase), func(t *testing.T) {
			api := world(nodeRepair(phase))
			clean(t, api)
			got := get(t, api, &v1alpha1.NodeRepair{}, client.ObjectKey{Name: "repair"})
			require.Equal(t, want.phase, got.Status.Phase)
			require.Contains(t, got.Status.Message, want.message)
		})
	}
}

func TestTheLeaderIsGivenTimeAndThenItsLeaseIsTaken(t *testing.T) {
	ended := leaderEndsWithin
	for name, test := range map[string]struct {
		lease  *coordinationv1.Lease
		repair *v1alpha1.NodeRepair
		want   time.Duration
	}{
		"no lease: nobody leads":                            {repair: nodeRepair(v1alpha1.PhaseWaiting)},
		"a lease that was given back":                       {lease: lease("", now), repair: nodeRepair(v1alpha1.PhaseWaiting)},
		"a lease that has run out":                          {lease: lease("leader", now.Add(-time.Minute)), repair: nodeRepair(v1alpha1.PhaseWaiting)},
		"a leader with nothing to let go of":                {lease: lease("leader", now), want: ended},
		"a leader with a repair that nothing takes back":    {lease: lease("leader", now), repair: nodeRepair(v1alpha1.PhaseTerminating), want: ended},
		"a leader that dies before it has let go":           {lease: lease("leader", now), repair: nodeRepair(v1alpha1.PhaseWaiting), want: 15 * time.Second},
		"our own lease, of an earlier try":                  {lease: lease(holder, now)},
		"a leader that lives on and does not let go at all": {lease: lease("leader", now.Add(time.Hour)), repair: nodeRepair(v1alpha1.PhaseWaiting), want: time.Minute + ended},
	} {
		t.Run(name, func(t *testing.T) {
			objects := []client.Object{}
			if test.lease != nil {
				objects = append(objects, test.lease)
			}
			if test.repair != nil {
				objects = append(objects, test.repair)
			}
			api := world(objects...)
			require.InDelta(t, test.want, clean(t, api), float64(look))
			if test.lease != nil {
				require.Equal(t, holder, *get(t, api, &coordinationv1.Lease{}, leaseKey).Spec.HolderIdentity)
			}
			require.True(t, apierrors.IsNotFound(api.Get(context.Background(), client.ObjectKey{Name: pauseName}, &v1alpha1.RepairPause{})))
		})
	}
}

func TestRepairsArePausedForAsLongAsTheLeaderLetsGo(t *testing.T) {
	left := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: pauseName}}
	left.Spec.Until = now.Add(-time.Hour).Format(time.RFC3339)
	for name, before := range map[string][]client.Object{
		"for the first time":                     nil,
		"after a run that left its pause behind": {left},
	} {
		t.Run(name, func(t *testing.T) {
			seen := false
			api := interceptor.NewClient(world(append(before, lease("leader", now), nodeRepair(v1alpha1.PhaseWaiting))...), interceptor.Funcs{
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					pause := &v1alpha1.RepairPause{}
					if err := c.Get(ctx, client.ObjectKey{Name: pauseName}, pause); err != nil {
						return err
					}
					seen = pause.Spec.Until == now.Add(pauseFor).Format(time.RFC3339)
					return c.List(ctx, list, opts...)
				},
			})
			clean(t, api)
			require.True(t, seen)
		})
	}
}

func TestAWriteThatSomebodyElseWasFasterThanIsDoneAnew(t *testing.T) {
	once := false
	api := interceptor.NewClient(world(node(map[string]string{v1alpha1.GuardedAnnotation: "true", karpv1.DoNotRepairAnnotationKey: "true"})), interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if !once {
				once = true
				return apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, o.GetName(), errors.New("somebody was faster"))
			}
			return c.Patch(ctx, o, p, opts...)
		},
	})
	clean(t, api)
	require.Empty(t, get(t, api, &corev1.Node{}, client.ObjectKey{Name: "node"}).Annotations)
}
