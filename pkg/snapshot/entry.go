package snapshot

import (
	"slices"

	"github.com/awslabs/operatorpkg/status"

	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// newEntry states what the objects themselves say about a node, sick or not. node is nil before it has joined the
// cluster, nodePool where there is none.
func newEntry(nodeClaim *karpv1.NodeClaim, node *corev1.Node, nodePool *karpv1.NodePool) decision.Node {
	entry := decision.Node{
		NodeClaim:    nodeClaim.Name,
		NodeClaimUID: nodeClaim.UID,
		NodePool:     nodeClaim.Labels[karpv1.NodePoolLabelKey],
		Zone:         nodeClaim.Labels[corev1.LabelTopologyZone],
		InstanceType: nodeClaim.Labels[corev1.LabelInstanceTypeStable],
		Image:        nodeClaim.Status.ImageID,
		CapacityType: nodeClaim.Labels[karpv1.CapacityTypeLabelKey],
		Capacity:     nodeClaim.Status.Capacity,
		Terminated:   conditionTrue(nodeClaim, karpv1.ConditionTypeInstanceTerminating),
		Rebooting:    conditionTrue(nodeClaim, karpv1.ConditionTypeRebooting),
		Vetoes:       vetoes(nodeClaim, node, nodePool),
	}
	if period := nodeClaim.Spec.TerminationGracePeriod; period != nil {
		entry.TerminationGracePeriod = &period.Duration
	}
	deleting := !nodeClaim.DeletionTimestamp.IsZero()
	disrupting := conditionTrue(nodeClaim, karpv1.ConditionTypeDisruptionReason)
	if node != nil {
		entry.NodeName = node.Name
		entry.Initialized = node.Labels[karpv1.NodeInitializedLabelKey] == "true"
		deleting = deleting || !node.DeletionTimestamp.IsZero()
		disrupting = disrupting || hasTaint(node, karpv1.DisruptedTaintKey)
		if zone := node.Labels[corev1.LabelTopologyZone]; zone != "" {
			entry.Zone = zone
		}
		if instanceType := node.Labels[corev1.LabelInstanceTypeStable]; instanceType != "" {
			entry.InstanceType = instanceType
		}
		if capacityType := node.Labels[karpv1.CapacityTypeLabelKey]; capacityType != "" {
			entry.CapacityType = capacityType
		}
		if len(node.Status.Capacity) > 0 {
			entry.Capacity = node.Status.Capacity
		}
	}
	entry.Deleting = deleting || entry.Terminated
	entry.KarpenterDisrupting = disrupting && !entry.Deleting && !entry.Rebooting
	return entry
}

func conditionTrue(nodeClaim *karpv1.NodeClaim, conditionType string) bool {
	return conditionOf(nodeClaim, conditionType).IsTrue()
}

// conditionOf reads a condition without StatusConditions(), which would add to the object's conditions; nil where there
// is none.
func conditionOf(nodeClaim *karpv1.NodeClaim, conditionType string) *status.Condition {
	for i := range nodeClaim.Status.Conditions {
		if nodeClaim.Status.Conditions[i].Type == conditionType {
			return &nodeClaim.Status.Conditions[i]
		}
	}
	return nil
}

func hasTaint(node *corev1.Node, key string) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool { return taint.Key == key })
}
