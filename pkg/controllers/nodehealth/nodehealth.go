// Package nodehealth is what the loops that write findings into NodeHealths have in common.
package nodehealth

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Applied is the whole of what a field manager states in the NodeHealth of a Node, for server-side apply. The Node owns it.
func Applied(node *corev1.Node, sources []v1alpha1.Source, findings []v1alpha1.Finding) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.NodeHealth{Sources: sources, Findings: findings})
	if err != nil {
		return nil, fmt.Errorf("converting nodehealth, %w", err)
	}
	delete(content, "metadata")
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("NodeHealth"))
	object.SetName(node.Name)
	object.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}})
	return object, nil
}

// OwnedBy says whether the Node owns the NodeHealth.
func OwnedBy(health *v1alpha1.NodeHealth, node *corev1.Node) bool {
	return slices.ContainsFunc(health.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == node.UID })
}

// OwnedByANode says whether any Node does.
func OwnedByANode(health *v1alpha1.NodeHealth) bool {
	return slices.ContainsFunc(health.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Node" })
}

// SpeaksOf says whether the NodeHealth is about this Node and not about an earlier one of the same name, whose faults
// are not this one's.
func SpeaksOf(health *v1alpha1.NodeHealth, node *corev1.Node) bool {
	return OwnedBy(health, node) || !OwnedByANode(health)
}
