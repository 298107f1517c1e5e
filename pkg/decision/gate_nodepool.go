package decision

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	conditionReady = "Ready"
	// resourceNodes is the resource by which Karpenter counts nodes in a NodePool's limits.
	resourceNodes corev1.ResourceName = "nodes"
)

// gateStandalone closes for a NodeClaim that nobody refills, unless the policy lets the node go first.
func gateStandalone(_ *index, c *candidate) []Blocker {
	if c.node.NodePool != "" || c.terminateFirst || c.action == v1alpha1.ActionReboot {
		return nil
	}
	return []Blocker{{
		Reason:   BlockerStandalone,
		Message:  "the NodeClaim belongs to no NodePool, so there is no template for a replacement",
		LiftedBy: "set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy, if it may go without one",
	}}
}

// gatePoolExists closes where the NodePool cannot be found: no budget can be read, no replacement can be made.
func gatePoolExists(_ *index, c *candidate) []Blocker {
	if c.node.NodePool == "" || c.pool.object != nil {
		return nil
	}
	return []Blocker{{Reason: BlockerNodePoolMissing, Message: fmt.Sprintf("NodePool %q cannot be found", c.node.NodePool)}}
}

// gatePoolReady closes where a replacement is not known to be launchable: one that cannot launch stalls Karpenter for
// the whole cluster. Karpenter itself provisions only from NodePools that are Ready.
func gatePoolReady(_ *index, c *candidate) []Blocker {
	if c.pool.object == nil {
		return nil
	}
	var out []Blocker
	if status, why := poolCondition(c.pool.object, conditionReady); status != metav1.ConditionTrue {
		out = append(out, Blocker{Reason: BlockerNodePoolNotReady, Message: fmt.Sprintf("NodePool %q is not Ready%s", c.pool.name, why)})
	}
	if status, why := poolCondition(c.pool.object, karpv1.ConditionTypeNodeRegistrationHealthy); status == metav1.ConditionFalse {
		out = append(out, Blocker{
			Reason:  BlockerNodePoolNotReady,
			Message: fmt.Sprintf("new nodes of NodePool %q do not register (NodeRegistrationHealthy is False)%s", c.pool.name, why),
		})
	}
	return out
}

func poolCondition(pool *karpv1.NodePool, conditionType string) (status metav1.ConditionStatus, why string) {
	for _, condition := range pool.Status.Conditions {
		if condition.Type != conditionType {
			continue
		}
		if condition.Message != "" {
			why = ": " + condition.Message
		}
		return condition.Status, why
	}
	return metav1.ConditionUnknown, ": Karpenter has not said so yet"
}

// gatePoolStatic closes for static NodePools: a replacement beside the node would exceed the replicas, and Karpenter
// would delete it.
func gatePoolStatic(_ *index, c *candidate) []Blocker {
	if !isStatic(c.pool) || c.terminateFirst || c.action == v1alpha1.ActionReboot {
		return nil
	}
	return []Blocker{{
		Reason:   BlockerNodePoolStatic,
		Message:  fmt.Sprintf("NodePool %q is static (replicas: %d), so no replacement can stand beside the node", c.pool.name, *c.pool.object.Spec.Replicas),
		LiftedBy: "set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy",
	}}
}

// gatePoolLimits closes where the NodePool's limits leave no room for a replacement. Where only what is under way takes
// the room, it comes back by itself, and the node does not go first for it.
func gatePoolLimits(_ *index, c *candidate) []Blocker {
	exceeded := limitExceeded(c)
	if exceeded == "" || c.terminateFirst {
		return nil
	}
	message := fmt.Sprintf("NodePool %q has no room for a replacement: %s", c.pool.name, exceeded)
	if limitExceededInTheEnd(c) == "" {
		return []Blocker{{
			Reason:   BlockerNodePoolLimits,
			Message:  message + "; there will be room once the nodes that are leaving are gone",
			LiftedBy: fmt.Sprintf("raise spec.limits of NodePool %q, or wait", c.pool.name),
		}}
	}
	return []Blocker{{
		Reason:  BlockerNodePoolLimits,
		Message: message,
		LiftedBy: fmt.Sprintf("raise spec.limits of NodePool %q, or set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy",
			c.pool.name),
	}}
}

// mustTerminateFirst says whether the node has to go before its replacement comes, and why, where the policy allows it. It
// rests on what the node and its NodePool are, never on how earlier repairs or launches went.
func (ix *index) mustTerminateFirst(c *candidate) (must bool, why string) {
	policy := c.node.Verdict.Policy
	if policy == nil || c.action != v1alpha1.ActionReplace {
		return false, ""
	}
	reserved := takesOnlyReserved(c)
	if policy.Spec.Replacement.Strategy != v1alpha1.StrategyTerminateFirstWhereNeeded {
		if reserved && c.needsReplacement() && !isStatic(c.pool) {
			return false, fmt.Sprintf("the replacement needs a second place in the capacity reservation, which NodePool %q alone uses: "+
				"if the reservation is full, set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy", c.pool.name)
		}
		return false, ""
	}
	switch {
	case c.node.NodePool == "":
		return true, "the NodeClaim belongs to no NodePool, so it goes first"
	case isStatic(c.pool):
		return true, fmt.Sprintf("NodePool %q is static, so the node goes first", c.pool.name)
	case limitExceededInTheEnd(c) != "":
		return true, fmt.Sprintf("NodePool %q is at its limits, so the node goes first", c.pool.name)
	case reserved && c.needsReplacement():
		return true, fmt.Sprintf("the node holds a place of a capacity reservation and NodePool %q takes no other capacity, so it goes first: "+
			"whether the reservation has a second place for the replacement cannot be seen", c.pool.name)
	default:
		return false, ""
	}
}

// takesOnlyReserved says whether the node is of reserved capacity and its NodePool takes no other, so that a replacement
// can come up nowhere but in a reservation. How much of a reservation is used stands nowhere in the API.
func takesOnlyReserved(c *candidate) bool {
	if c.node.CapacityType != karpv1.CapacityTypeReserved || c.pool.object == nil {
		return false
	}
	template := c.pool.object.Spec.Template
	if label, ok := template.Labels[karpv1.CapacityTypeLabelKey]; ok {
		return label == karpv1.CapacityTypeReserved
	}
	return !takes(template.Spec.Requirements, karpv1.CapacityTypeOnDemand) && !takes(template.Spec.Requirements, karpv1.CapacityTypeSpot)
}

// takes says whether requirements admit a capacity type. A requirement that cannot be read admits it: in doubt the
// replacement comes first.
func takes(requirements []karpv1.NodeSelectorRequirementWithMinValues, capacityType string) bool {
	for i := range requirements {
		if requirements[i].Key != karpv1.CapacityTypeLabelKey {
			continue
		}
		has := slices.Contains(requirements[i].Values, capacityType)
		switch requirements[i].Operator {
		case corev1.NodeSelectorOpIn:
			if !has {
				return false
			}
		case corev1.NodeSelectorOpNotIn:
			if has {
				return false
			}
		case corev1.NodeSelectorOpDoesNotExist:
			return false
		default:
		}
	}
	return true
}

func isStatic(pool *poolState) bool { return pool.object != nil && pool.object.Spec.Replicas != nil }

// limitExceeded names the first limit that a replacement as large as the node would exceed, counting those that are
// on their way; empty where there is room, or none is needed.
func limitExceeded(c *candidate) string { return c.exceeds(nil) }

// limitExceededInTheEnd is limitExceeded as it will be once every replacement that is under way has taken the place of
// its node.
func limitExceededInTheEnd(c *candidate) string { return c.exceeds(c.pool.leaving) }

func (c *candidate) exceeds(without corev1.ResourceList) string {
	if c.pool.object == nil || c.repair != nil || !c.needsReplacement() {
		return ""
	}
	limits := c.pool.object.Spec.Limits
	names := make([]corev1.ResourceName, 0, len(limits))
	for name := range limits {
		names = append(names, name)
	}
	slices.Sort(names)
	replacement := replacementOf(c.node)
	for _, name := range names {
		limit, used := limits[name], c.pool.used(name)
		used.Sub(without[name])
		used.Add(c.pool.launching[name])
		used.Add(replacement[name])
		if used.Cmp(limit) > 0 {
			return fmt.Sprintf("limit of %s is %s, and with one it would use %s", name, limit.String(), used.String())
		}
	}
	return ""
}

func (p *poolState) limited() bool { return p.object != nil && len(p.object.Spec.Limits) > 0 }

// used is the larger of what Karpenter counts and what stands: Karpenter's count comes seconds after a node.
func (p *poolState) used(name corev1.ResourceName) resource.Quantity {
	counted, standing := p.object.Status.Resources[name], p.standing[name]
	if standing.Cmp(counted) > 0 {
		return standing.DeepCopy()
	}
	return counted.DeepCopy()
}

// replacementOf is what a replacement in kind is expected to take up.
func replacementOf(node *Node) corev1.ResourceList {
	out := make(corev1.ResourceList, len(node.Capacity)+1)
	for name, quantity := range node.Capacity {
		out[name] = quantity
	}
	out[resourceNodes] = *resource.NewQuantity(1, resource.DecimalSI)
	return out
}

// needsRoom says whether a repair will launch a replacement that Karpenter does not count yet.
func needsRoom(repair *v1alpha1.NodeRepair) bool {
	if repair.Spec.Action != v1alpha1.ActionReplace || repair.Spec.TerminateFirst || repair.Spec.Replacements == 0 {
		return false
	}
	return !slices.ContainsFunc(repair.Status.Replacements, func(r v1alpha1.ReplacementStatus) bool {
		return r.LaunchedAt != nil && r.WithdrawnAt == nil
	})
}

func plus(a, b corev1.ResourceList) corev1.ResourceList {
	out := make(corev1.ResourceList, len(a)+len(b))
	for name, quantity := range a {
		out[name] = quantity.DeepCopy()
	}
	for name, quantity := range b {
		sum := out[name]
		sum.Add(quantity)
		out[name] = sum
	}
	return out
}
