package execution

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/repair"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var request = reconcile.Request{NamespacedName: client.ObjectKey{Name: "repair"}}

// nodeRepair cannot be carried out, so that one step ends it.
func nodeRepair() *v1alpha1.NodeRepair {
	r := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "repair", UID: "repair"}}
	r.Spec.NodeClaim = v1alpha1.NodeClaimReference{Name: "claim", UID: "claim"}
	r.Spec.NodeName, r.Spec.Action = "node", v1alpha1.ActionNone
	return r
}

// over makes a controller of an API, with what its cache shows and how often its status was written.
func over(t *testing.T, cached client.Reader, fail error) (*Controller, client.WithWatch, *int) {
	t.Helper()
	writes := 0
	api := fakeapi.Builder().WithObjects(nodeRepair()).WithStatusSubresource(&v1alpha1.NodeRepair{}).Build()
	kubeClient := interceptor.NewClient(api, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if cached != nil {
				return cached.Get(ctx, key, o, opts...)
			}
			return c.Get(ctx, key, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			writes++
			if fail != nil {
				return fail
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	executor := &repair.Executor{Client: kubeClient, Reader: api, Clock: clocktesting.NewFakeClock(time.Now()), Recorder: events.NewFakeRecorder(10)}
	return NewController(kubeClient, executor), api, &writes
}

func TestAStepIsTakenAndWritten(t *testing.T) {
	c, api, writes := over(t, nil, nil)
	result, err := c.Reconcile(context.Background(), request)
	require.NoError(t, err)
	require.Zero(t, result.RequeueAfter, "the repair has ended")
	require.Equal(t, 1, *writes)
	got := &v1alpha1.NodeRepair{}
	require.NoError(t, api.Get(context.Background(), request.NamespacedName, got))
	require.Equal(t, v1alpha1.PhaseFailed, got.Status.Phase)
	_, err = c.Reconcile(context.Background(), request)
	require.NoError(t, err)
	require.Equal(t, 1, *writes, "what has ended is left alone")
}

func TestNoStepIsTakenFromAnOlderVersionThanWeWrote(t *testing.T) {
	older := fakeapi.Builder().WithObjects(nodeRepair()).Build()
	c, _, writes := over(t, older, nil)
	_, err := c.Reconcile(context.Background(), request)
	require.NoError(t, err)
	result, err := c.Reconcile(context.Background(), request)
	require.NoError(t, err)
	require.Equal(t, conflictPause, result.RequeueAfter, "the cache has to catch up")
	require.Equal(t, 1, *writes)
}

func TestAFailureIsTriedAgainAndNamesTheNodeClaim(t *testing.T) {
	c, _, _ := over(t, nil, errors.New("no answer"))
	_, err := c.Reconcile(context.Background(), request)
	require.ErrorContains(t, err, "repairing NodeClaim claim")
	require.ErrorContains(t, err, "no answer")
}

func TestARepairThatIsGoneIsNoError(t *testing.T) {
	c, api, writes := over(t, nil, nil)
	require.NoError(t, api.Delete(context.Background(), nodeRepair()))
	_, err := c.Reconcile(context.Background(), request)
	require.NoError(t, err)
	require.Zero(t, *writes)
}

func TestWhateverBelongsToARepairBringsItBack(t *testing.T) {
	c, api, _ := over(t, nil, nil)
	ended := nodeRepair()
	ended.Name, ended.Status.Phase = "ended", v1alpha1.PhaseSucceeded
	require.NoError(t, api.Create(context.Background(), ended))
	require.NoError(t, api.Status().Update(context.Background(), ended))
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim", UID: "claim"}}
	for name, requests := range map[string][]reconcile.Request{
		"its NodeClaim":    c.repairsOfNodeClaim(context.Background(), claim),
		"its replacement":  c.repairsOfNodeClaim(context.Background(), &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "new", Labels: map[string]string{v1alpha1.NodeRepairLabel: "repair"}}}),
		"its Node":         c.repairsOfNode(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}),
		"any RepairPolicy": c.allRepairs(context.Background(), &v1alpha1.RepairPolicy{}),
	} {
		require.Equal(t, []reconcile.Request{request}, requests, name)
	}
	require.Empty(t, c.repairsOfNode(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "another"}}))
}
