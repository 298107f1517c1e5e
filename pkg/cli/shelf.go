package cli

import (
	"context"
	"fmt"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// shelf lets those who read through a client.Reader read a Fleet. It gives what it holds without a copy, and knows the
// fields that the gatherer looks up.
type shelf struct{ fleet *Fleet }

// List gives the objects of a kind; Pods and Nodes by a field too. A kind that a Fleet does not hold has no objects.
func (s shelf) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	selector := (&client.ListOptions{}).ApplyOptions(opts).FieldSelector
	switch list := list.(type) {
	case *karpv1.NodePoolList:
		list.Items = s.fleet.NodePools
	case *karpv1.NodeClaimList:
		list.Items = s.fleet.NodeClaims
	case *corev1.NodeList:
		list.Items = having(s.fleet.Nodes, selector, "spec.providerID", func(n *corev1.Node) string { return n.Spec.ProviderID })
	case *corev1.PodList:
		list.Items = lo.Reject(having(s.fleet.Pods, selector, "spec.nodeName", func(p *corev1.Pod) string { return p.Spec.NodeName }), hasEnded)
	case *policyv1.PodDisruptionBudgetList:
		list.Items = s.fleet.Budgets
	case *v1alpha1.NodeHealthList:
		list.Items = s.fleet.Health
	case *v1alpha1.NodeRepairList:
		list.Items = s.fleet.Repairs
	case *v1alpha1.RepairPolicyList:
		list.Items = s.fleet.Policies
	case *v1alpha1.RepairPauseList:
		list.Items = s.fleet.Pauses
	default:
		return fmt.Errorf("a fleet holds no %T", list)
	}
	return nil
}

// hasEnded says of a pod that it is nothing to a node's repair; the controller's cache leaves it out.
func hasEnded(pod corev1.Pod, _ int) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// having gives the items whose field has the value that the selector asks for; all where it does not ask for it.
func having[T any](items []T, selector fields.Selector, field string, value func(*T) string) []T {
	if selector == nil {
		return items
	}
	want, asked := selector.RequiresExactMatch(field)
	if !asked {
		return items
	}
	var out []T
	for i := range items {
		if value(&items[i]) == want {
			out = append(out, items[i])
		}
	}
	return out
}

// Get finds nothing: who gathers a whole fleet lists.
func (s shelf) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: fmt.Sprintf("%T", object)}, key.Name)
}
