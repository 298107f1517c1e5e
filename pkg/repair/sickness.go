package repair

import (
	"strings"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// sicknessOf says, as a reason of Verified, whether a sick replacement shows the cause of the repair again. What the
// two share is the reason of the finding: its subject, an interface or a disk, has another name on another node.
func sicknessOf(repair *v1alpha1.NodeRepair, claim *karpv1.NodeClaim) string {
	cause := &repair.Spec.Cause
	condition := claim.StatusConditions().Get(health.ConditionType(cause.Category))
	// The reason is the worst finding's; the message lists them all, each with its reason first.
	if condition.IsFalse() && (condition.Reason == cause.Reason || strings.Contains(condition.Message, cause.Reason+" ")) {
		return v1alpha1.VerifiedCauseReturned
	}
	return v1alpha1.VerifiedReplacementSick
}
