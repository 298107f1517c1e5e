package conditions

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// tell says each turn once, on the NodeClaim and its Node, after it has been written.
func (c *Controller) tell(claim *karpv1.NodeClaim, before, after []metav1.Condition) {
	sick := meta.FindStatusCondition(after, v1alpha1.ConditionUnhealthy)
	wasSick := meta.FindStatusCondition(before, v1alpha1.ConditionUnhealthy)
	switch {
	case sick != nil && wasSick == nil:
		c.event(claim, corev1.EventTypeWarning, "Unhealthy", sick.Message)
	case sick == nil && wasSick != nil && claim.DeletionTimestamp.IsZero():
		c.event(claim, corev1.EventTypeNormal, "Recovered", "the node has no Fatal finding past its toleration any more")
	}
	blocked := meta.FindStatusCondition(after, v1alpha1.ConditionRepairBlocked)
	wasBlocked := meta.FindStatusCondition(before, v1alpha1.ConditionRepairBlocked)
	if blocked != nil && (wasBlocked == nil || wasBlocked.Reason != blocked.Reason) {
		c.event(claim, corev1.EventTypeNormal, "RepairBlocked", blocked.Message)
	}
}

// maxNote is the longest note, in bytes, that the API server takes in an event, less a margin for the ellipsis
// (pkg/apis/core/validation/events.go of Kubernetes 1.36: 1024).
const maxNote = 1000

func (c *Controller) event(claim *karpv1.NodeClaim, kind, reason, message string) {
	if len(message) > maxNote {
		message = strings.ToValidUTF8(message[:maxNote], "") + "…"
	}
	objects := []runtime.Object{claim}
	if claim.Status.NodeName != "" {
		objects = append(objects, &corev1.Node{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
			ObjectMeta: metav1.ObjectMeta{Name: claim.Status.NodeName},
		})
	}
	for _, object := range objects {
		c.recorder.Eventf(object, nil, kind, reason, "Diagnose", "%s", message)
	}
}
