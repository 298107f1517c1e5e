package repair

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func changed(before, after *v1alpha1.NodeRepair) bool {
	return !equality.Semantic.DeepEqual(before.Status, after.Status)
}

// tell says on the NodeClaim, once it has been written, that a turn was reached. The Node hears of the drain, and of
// an end that leaves it standing.
func (e *Executor) tell(before, after *v1alpha1.NodeRepair) {
	phase := after.Status.Phase
	turn := phase == v1alpha1.PhaseProvisioning || phase == v1alpha1.PhaseTerminating || phase == v1alpha1.PhaseRebooting || after.Finished()
	if before.Status.Phase == phase || !turn {
		return
	}
	kind := corev1.EventTypeNormal
	if after.Status.Phase == v1alpha1.PhaseFailed {
		kind = corev1.EventTypeWarning
	}
	subjects := []runtime.Object{&karpv1.NodeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: karpapis.Group + "/v1", Kind: "NodeClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: after.Spec.NodeClaim.Name, UID: after.Spec.NodeClaim.UID},
	}}
	if after.Spec.NodeName != "" && after.Status.Phase != v1alpha1.PhaseProvisioning && after.Status.Phase != v1alpha1.PhaseSucceeded {
		subjects = append(subjects, &corev1.Node{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
			ObjectMeta: metav1.ObjectMeta{Name: after.Spec.NodeName},
		})
	}
	for _, subject := range subjects {
		e.Recorder.Eventf(subject, after, kind, "Repair"+string(after.Status.Phase), string(after.Spec.Action), "%s", after.Status.Message)
	}
}
