package inside

import (
	"context"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestARebootIsCountedAndAskedForOnce(t *testing.T) {
	ctx := context.Background()
	request := map[string]string{v1alpha1.RepairRequestAnnotation: string(v1alpha1.ActionReboot)}
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "1", Annotations: request}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a", Annotations: request}}
	api := fakeapi.Builder().WithObjects(claim, node).WithStatusSubresource(claim).Build()
	bound := time.Minute
	d := decision.Decision{Node: decision.Node{NodeClaim: "a", NodeClaimUID: "1", NodeName: "node-a"}, DrainBound: &bound}
	r := rebooter{client: api, reader: api, clock: clocktesting.NewFakeClock(now)}

	asked, err := r.reboot(ctx, d)
	require.NoError(t, err)
	require.True(t, asked)
	require.NoError(t, api.Get(ctx, client.ObjectKeyFromObject(claim), claim))
	require.Equal(t, map[string]string{
		v1alpha1.RebootsAnnotation: "2026-01-02T03:04:05Z", karpv1.RebootTerminationGracePeriodAnnotationKey: "1m0s",
	}, claim.Annotations, "the person's request is answered")
	conditions := claim.StatusConditions(status.WithObservedOnly())
	require.Equal(t, karpv1.RebootReasonRequested, conditions.Get(karpv1.ConditionTypeRebooting).Reason)
	require.True(t, conditions.Get(karpv1.ConditionTypeDisruptionReason).IsTrue())
	require.NoError(t, api.Get(ctx, client.ObjectKeyFromObject(node), node))
	require.Empty(t, node.Annotations)

	asked, err = r.reboot(ctx, d)
	require.NoError(t, err)
	require.False(t, asked, "it is rebooting already")
	d.Node.NodeClaimUID = "2"
	asked, err = r.reboot(ctx, d)
	require.NoError(t, err)
	require.False(t, asked, "it is another NodeClaim by now")
	d.Node.NodeClaim = "gone"
	asked, err = r.reboot(ctx, d)
	require.NoError(t, err)
	require.False(t, asked)
}
