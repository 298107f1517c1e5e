package janitor

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/repair"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func fenced(owner string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Annotations: map[string]string{
		v1alpha1.FenceOwnerAnnotation: owner, v1alpha1.FenceRestoreAnnotation: `{"karpenter.sh/do-not-disrupt":null}`,
		karpv1.DoNotDisruptAnnotationKey: "true", "own": "kept",
	}}}
	node.Spec.Taints = []corev1.Taint{v1alpha1.UnhealthyTaint, {Key: "own", Effect: corev1.TaintEffectNoSchedule}}
	return node
}

func replacement(age time.Duration) *karpv1.NodeClaim {
	return &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{
		Name: "replacement", CreationTimestamp: metav1.NewTime(now.Add(-age)),
		Labels:      map[string]string{v1alpha1.NodeRepairLabel: "repair", karpv1.NodePoolLabelKey: "pool"},
		Annotations: map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"},
	}}
}

func nodeRepair(phase v1alpha1.Phase) *v1alpha1.NodeRepair {
	r := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "repair", UID: "repair-uid"}}
	r.Status.Phase = phase
	return r
}

// with a replacement, which was withdrawn or not.
func with(r *v1alpha1.NodeRepair, withdrawn bool) *v1alpha1.NodeRepair {
	r.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: "replacement"}}
	if withdrawn {
		r.Status.Replacements[0].WithdrawnAt = &metav1.Time{Time: now}
	}
	return r
}

func round(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	api := fakeapi.Builder().WithObjects(objects...).Build()
	clk := clocktesting.NewFakeClock(now)
	executor := &repair.Executor{Client: api, Reader: api, Clock: clk, Recorder: events.NewFakeRecorder(10)}
	require.NoError(t, NewController(clk, api, api, executor).Round(context.Background()))
	return api
}

func get[T client.Object](t *testing.T, api client.Client, object T, name string) T {
	t.Helper()
	require.NoError(t, api.Get(context.Background(), client.ObjectKey{Name: name}, object))
	return object
}

func TestAFenceWithoutARepairIsTakenAway(t *testing.T) {
	for name, objects := range map[string][]client.Object{
		"whose NodeRepair is gone":      {fenced("gone")},
		"whose NodeRepair has ended":    {fenced("repair-uid"), nodeRepair(v1alpha1.PhaseFailed)},
		"of an earlier repair's making": {fenced("earlier"), nodeRepair(v1alpha1.PhaseWaiting)},
	} {
		t.Run(name, func(t *testing.T) {
			node := get(t, round(t, objects...), &corev1.Node{}, "node")
			require.Equal(t, map[string]string{"own": "kept"}, node.Annotations)
			require.Equal(t, []corev1.Taint{{Key: "own", Effect: corev1.TaintEffectNoSchedule}}, node.Spec.Taints)
		})
	}
}

func TestAFenceThatARepairHoldsStays(t *testing.T) {
	node := get(t, round(t, fenced("repair-uid"), nodeRepair(v1alpha1.PhaseWaiting)), &corev1.Node{}, "node")
	require.Equal(t, fenced("repair-uid").Annotations, node.Annotations)
	require.Len(t, node.Spec.Taints, 2)
}

func TestTheProtectionOfAReplacementIsLiftedWhereNoRepairHoldsIt(t *testing.T) {
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
	asks := pool.DeepCopy()
	asks.Spec.Template.Annotations = map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"}
	for name, test := range map[string]struct {
		objects   []client.Object
		protected bool
	}{
		"its repair is gone":                        {objects: []client.Object{replacement(time.Hour), pool}},
		"its repair has ended":                      {objects: []client.Object{replacement(time.Hour), pool, with(nodeRepair(v1alpha1.PhaseFailed), false)}},
		"its repair is at work":                     {objects: []client.Object{replacement(time.Hour), pool, nodeRepair(v1alpha1.PhaseVerifying)}, protected: true},
		"it is newer than what the cache may show":  {objects: []client.Object{replacement(time.Second), pool}, protected: true},
		"its NodePool asks for the same protection": {objects: []client.Object{replacement(time.Hour), asks}, protected: true},
	} {
		t.Run(name, func(t *testing.T) {
			claim := get(t, round(t, test.objects...), &karpv1.NodeClaim{}, "replacement")
			_, protected := claim.Annotations[karpv1.DoNotDisruptAnnotationKey]
			require.Equal(t, test.protected, protected)
		})
	}
}

func TestAReplacementThatComesAfterItsRepairHasEndedIsWithdrawn(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pod"}, Spec: corev1.PodSpec{NodeName: "new"}}
	stands := replacement(time.Hour)
	stands.Status.NodeName = "new"
	for name, test := range map[string]struct {
		objects []client.Object
		stays   bool
	}{
		"its repair knows nothing of it":     {objects: []client.Object{replacement(time.Hour), nodeRepair(v1alpha1.PhaseCanceled)}},
		"its repair had withdrawn it before": {objects: []client.Object{replacement(time.Hour), with(nodeRepair(v1alpha1.PhaseFailed), true)}},
		"its repair is at work":              {objects: []client.Object{replacement(time.Hour), nodeRepair(v1alpha1.PhaseWaiting)}, stays: true},
		"pods have come to it":               {objects: []client.Object{stands, pod, nodeRepair(v1alpha1.PhaseCanceled)}, stays: true},
		"nothing is known of its repair":     {objects: []client.Object{replacement(time.Hour)}, stays: true},
		"it is new":                          {objects: []client.Object{replacement(time.Second), nodeRepair(v1alpha1.PhaseCanceled)}, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			err := round(t, test.objects...).Get(context.Background(), client.ObjectKey{Name: "replacement"}, &karpv1.NodeClaim{})
			require.NoError(t, client.IgnoreNotFound(err))
			require.Equal(t, test.stays, err == nil)
		})
	}
}
