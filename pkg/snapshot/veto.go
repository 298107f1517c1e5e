package snapshot

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// vetoes lists what keeps the node from being repaired: karpenter.sh/do-not-repair on the Node, on its NodeClaim, or on
// its NodePool, where a person has set it. What our own guard and fence have set is no veto.
func vetoes(nodeClaim *karpv1.NodeClaim, node *corev1.Node, nodePool *karpv1.NodePool) []decision.Veto {
	var found []decision.Veto
	if node != nil && node.Annotations[karpv1.DoNotRepairAnnotationKey] == "true" && !ownDoNotRepair(node) {
		found = append(found, veto("Node", node.Name))
	}
	if nodeClaim.Annotations[karpv1.DoNotRepairAnnotationKey] == "true" {
		found = append(found, veto("NodeClaim", nodeClaim.Name))
	}
	if nodePool != nil && nodePool.Annotations[karpv1.DoNotRepairAnnotationKey] == "true" {
		found = append(found, veto("NodePool", nodePool.Name))
	}
	return found
}

func veto(kind, name string) decision.Veto {
	return decision.Veto{By: fmt.Sprintf("annotation %s on %s %s", karpv1.DoNotRepairAnnotationKey, kind, name)}
}

// ownDoNotRepair says whether we have set karpenter.sh/do-not-repair on the Node ourselves: as a guard, or as a part of
// the fence of a repair that found no such annotation. A fence that cannot be read counts as a person's: in doubt the
// node is left alone.
func ownDoNotRepair(node *corev1.Node) bool {
	if _, guarded := node.Annotations[v1alpha1.GuardedAnnotation]; guarded {
		return true
	}
	if node.Annotations[v1alpha1.FenceOwnerAnnotation] == "" {
		return false
	}
	before := map[string]*string{}
	if err := json.Unmarshal([]byte(node.Annotations[v1alpha1.FenceRestoreAnnotation]), &before); err != nil {
		return false
	}
	value, fenced := before[karpv1.DoNotRepairAnnotationKey]
	return fenced && (value == nil || *value != "true")
}
