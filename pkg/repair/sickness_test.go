package repair

import (
	"testing"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestWhatASickReplacementProves(t *testing.T) {
	cause := v1alpha1.RepairCause{Reason: "InterfaceNotUp", Category: v1alpha1.CategoryNetworking, Subject: "eth0"}
	says := func(conditionType string, state metav1.ConditionStatus, reason, message string) status.Condition {
		return status.Condition{Type: "autorepair.sh/" + conditionType, Status: state, Reason: reason, Message: message}
	}
	for name, test := range map[string]struct {
		condition status.Condition
		want      string
	}{
		"the same reason, of another interface": {
			says("NetworkingReady", metav1.ConditionFalse, "InterfaceNotUp", "InterfaceNotUp ens5 since ..."), v1alpha1.VerifiedCauseReturned,
		},
		"the same reason beside a worse one": {
			says("NetworkingReady", metav1.ConditionFalse, "RouteMissing", "RouteMissing since ...; InterfaceNotUp ens5 since ..."), v1alpha1.VerifiedCauseReturned,
		},
		"another reason of the same category": {
			says("NetworkingReady", metav1.ConditionFalse, "RouteMissing", "RouteMissing since ..."), v1alpha1.VerifiedReplacementSick,
		},
		"another category": {
			says("KernelReady", metav1.ConditionFalse, "KernelDeadlock", "KernelDeadlock since ..."), v1alpha1.VerifiedReplacementSick,
		},
		"the cause is only what was known last": {
			says("NetworkingReady", metav1.ConditionUnknown, "SourceSilent", "last known: InterfaceNotUp ens5 since ..."), v1alpha1.VerifiedReplacementSick,
		},
	} {
		t.Run(name, func(t *testing.T) {
			claim := &karpv1.NodeClaim{}
			claim.Status.Conditions = []status.Condition{test.condition}
			require.Equal(t, test.want, sicknessOf(&v1alpha1.NodeRepair{Spec: v1alpha1.NodeRepairSpec{Cause: cause}}, claim))
		})
	}
	request := &v1alpha1.NodeRepair{Spec: v1alpha1.NodeRepairSpec{Cause: v1alpha1.RepairCause{Reason: "RepairRequested", Category: v1alpha1.CategoryRequest}}}
	require.Equal(t, v1alpha1.VerifiedReplacementSick, sicknessOf(request, &karpv1.NodeClaim{}), "a request is no cause that could return")
}
