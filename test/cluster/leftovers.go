package cluster

import (
	"context"
	"fmt"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Leftovers lists, in words, what finished repairs must not leave on any Node or NodeClaim of the cluster: taints and
// annotations of a fence, and the protection of a replacement. Nodes that never registered are left out: a Karpenter
// that is killed right after it has launched one forgets it, launches another, and the kwok provider collects none.
func (c *Cluster) Leftovers(ctx context.Context) ([]string, error) {
	nodes, claims := &corev1.NodeList{}, &karpv1.NodeClaimList{}
	if err := c.Client.List(ctx, nodes); err != nil {
		return nil, fmt.Errorf("listing Nodes, %w", err)
	}
	if err := c.Client.List(ctx, claims); err != nil {
		return nil, fmt.Errorf("listing NodeClaims, %w", err)
	}
	var left []string
	for _, node := range nodes.Items {
		if lo.ContainsBy(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == karpv1.UnregisteredTaintKey }) {
			continue
		}
		left = append(left, marks("Node "+node.Name, node.Annotations, node.Spec.Taints)...)
	}
	for _, claim := range claims.Items {
		left = append(left, marks("NodeClaim "+claim.Name, claim.Annotations, nil)...)
	}
	return left, nil
}

func marks(of string, annotations map[string]string, taints []corev1.Taint) []string {
	var left []string
	for _, key := range []string{
		karpv1.DoNotDisruptAnnotationKey, karpv1.DoNotRepairAnnotationKey,
		v1alpha1.FenceOwnerAnnotation, v1alpha1.FenceRestoreAnnotation, v1alpha1.GuardedAnnotation,
	} {
		if _, ok := annotations[key]; ok {
			left = append(left, fmt.Sprintf("%s still has the annotation %s", of, key))
		}
	}
	if lo.ContainsBy(taints, fences) {
		left = append(left, fmt.Sprintf("%s still has the taint %s", of, v1alpha1.UnhealthyTaintKey))
	}
	return left
}

func fences(taint corev1.Taint) bool { return taint.Key == v1alpha1.UnhealthyTaintKey }
