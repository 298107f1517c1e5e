package conditions

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// With the CRDs of Karpenter before 1.15 server-side apply drops Karpenter's own conditions, Launched among them, and
// Karpenter launches the node a second time.
func TestWhereTheConditionsAreOneListThoseOfOthersStay(t *testing.T) {
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityFatal), policy())
	w.LockWhere(func() bool { return true })
	w.look()
	require.Zero(t, w.writes, "nothing is applied")
	got := &karpv1.NodeClaim{}
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "claim"}, got))
	require.True(t, got.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue())
	require.Equal(t, "False", string(w.condition("autorepair.sh/KernelReady").Status))
	w.look()
}

func TestAConflictIsTriedAgainSoon(t *testing.T) {
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityFatal), policy())
	w.LockWhere(func() bool { return true })
	w.kubeClient = interceptor.NewClient(w.api, interceptor.Funcs{
		SubResourcePatch: func(_ context.Context, _ client.Client, _ string, o client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
			return apierrors.NewConflict(schema.GroupResource{Resource: "nodeclaims"}, o.GetName(), nil)
		},
	})
	require.Equal(t, conflictPause, w.look().RequeueAfter)
}
