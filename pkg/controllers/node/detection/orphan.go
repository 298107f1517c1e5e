package detection

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodehealth"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/events"
)

// withoutNode says once that a NodeHealth speaks of a Node that does not exist. It is left as it is: one that is owned
// by a Node goes with it, and one that is not was made by somebody who may still want it.
func (c *Controller) withoutNode(name string, health *v1alpha1.NodeHealth) {
	if health == nil {
		c.orphans.Delete(name)
		return
	}
	if nodehealth.OwnedByANode(health) || !health.DeletionTimestamp.IsZero() {
		return
	}
	if said, ok := c.orphans.Swap(name, health.UID); ok && said == health.UID {
		return
	}
	c.recorder.Eventf(health, nil, corev1.EventTypeWarning, events.ReasonNodeNotFound, "Detect",
		"there is no Node %s: what this NodeHealth says counts for nothing; delete it, or name it as a Node", name)
}
