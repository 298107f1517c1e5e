package repair

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// fence keeps new pods and Karpenter's other methods off the node, by one write, and looks again past the cache
// whether Karpenter was faster.
func (e *Executor) fence(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	if stop, err := e.stopped(ctx, repair); err != nil || stop {
		return through, err
	}
	// From the cache: the write fails where that is behind.
	n, err := node(ctx, e.Client, repair.Spec.NodeName)
	if err != nil {
		return progress{}, err
	}
	if n == nil {
		e.setCondition(repair, v1alpha1.RepairConditionFenced, metav1.ConditionTrue, fencedNodeGone, "there is no Node to fence")
		return to(repair, v1alpha1.PhaseProvisioning, "a replacement is about to be made"), nil
	}
	// karpenter.sh/do-not-repair is left to people where Karpenter would not repair anyway.
	karpenter := e.Karpenter()
	// The write answers with the Node as it is from then on.
	if err := e.putFence(ctx, n, repair.UID, karpenter.OwnRepair && karpenter.HonoursDoNotRepair); err != nil {
		return progress{}, err
	}
	claim, err := nodeClaim(ctx, e.Reader, repair)
	if err != nil {
		return progress{}, err
	}
	if e.taken(repair, claim, n) {
		return through, nil
	}
	e.setCondition(repair, v1alpha1.RepairConditionFenced, metav1.ConditionTrue, hold(claim, karpenter), "the node takes no new pods, and Karpenter's other methods leave it alone")
	return to(repair, v1alpha1.PhaseProvisioning, "a replacement is about to be made"), nil
}

// fenceValue is what the fence writes as each of its annotations.
const fenceValue = "true"

// fencing annotations, besides those that say whose fence it is.
func fencing(keepOffRepair bool) []string {
	keys := []string{karpv1.DoNotDisruptAnnotationKey}
	if keepOffRepair {
		keys = append(keys, karpv1.DoNotRepairAnnotationKey)
	}
	return keys
}

func (e *Executor) putFence(ctx context.Context, n *corev1.Node, owner types.UID, keepOffRepair bool) error {
	if n.Annotations[v1alpha1.FenceOwnerAnnotation] == string(owner) {
		return nil
	}
	stored := n.DeepCopy()
	if n.Annotations == nil {
		n.Annotations = map[string]string{}
	}
	// A fence that another repair left behind already knows what stood before it, but for what a person has written since.
	before := map[string]*string{}
	if text, ok := n.Annotations[v1alpha1.FenceRestoreAnnotation]; ok {
		if err := json.Unmarshal([]byte(text), &before); err != nil {
			return fmt.Errorf("reading annotation %s of Node %s: remove it by hand, %w", v1alpha1.FenceRestoreAnnotation, n.Name, err)
		}
	}
	for _, key := range fencing(keepOffRepair) {
		if _, known := before[key]; !known || n.Annotations[key] != fenceValue {
			before[key] = nil
			if value, ok := n.Annotations[key]; ok {
				before[key] = &value
			}
		}
		n.Annotations[key] = fenceValue
	}
	text, err := json.Marshal(before)
	if err != nil {
		return fmt.Errorf("keeping what stood before the fence, %w", err)
	}
	n.Annotations[v1alpha1.FenceRestoreAnnotation] = string(text)
	n.Annotations[v1alpha1.FenceOwnerAnnotation] = string(owner)
	if !slices.ContainsFunc(n.Spec.Taints, isFence) {
		n.Spec.Taints = append(n.Spec.Taints, v1alpha1.UnhealthyTaint)
	}
	if err := e.Client.Patch(ctx, n, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("fencing node, %w", err)
	}
	return nil
}

func isFence(taint corev1.Taint) bool { return taint.Key == v1alpha1.UnhealthyTaintKey }

// Unfence takes the fence away, and puts back what stood before it. owner is whose fence it must be; empty for any.
// drop lists annotations that go with it. A Node that is gone needs none.
func (e *Executor) Unfence(ctx context.Context, name string, owner types.UID, drop ...string) error {
	n, err := node(ctx, e.Reader, name)
	if err != nil || n == nil {
		return err
	}
	stored := n.DeepCopy()
	if holder := n.Annotations[v1alpha1.FenceOwnerAnnotation]; holder != "" && (owner == "" || holder == string(owner)) {
		n.Spec.Taints = lo.Reject(n.Spec.Taints, func(t corev1.Taint, _ int) bool { return isFence(t) })
		restore(n)
	}
	for _, key := range drop {
		delete(n.Annotations, key)
	}
	if len(stored.Annotations) == len(n.Annotations) && len(stored.Spec.Taints) == len(n.Spec.Taints) {
		return nil
	}
	if err := e.Client.Patch(ctx, n, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("taking the fence away, %w", err)
	}
	return nil
}

func restore(n *corev1.Node) {
	before := map[string]*string{}
	// A text that cannot be read restores nothing, and what the fence set is taken away.
	if err := json.Unmarshal([]byte(n.Annotations[v1alpha1.FenceRestoreAnnotation]), &before); err != nil {
		before = map[string]*string{karpv1.DoNotDisruptAnnotationKey: nil}
	}
	for key, value := range before {
		// What a person has written over the fence, or taken away from it, stays.
		if n.Annotations[key] != fenceValue {
			continue
		}
		if value == nil {
			delete(n.Annotations, key)
		} else {
			n.Annotations[key] = *value
		}
	}
	delete(n.Annotations, v1alpha1.FenceRestoreAnnotation)
	delete(n.Annotations, v1alpha1.FenceOwnerAnnotation)
}
