package cleanup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// nodeClaims takes our conditions away, and the protection of replacements.
func (c *Cleaner) nodeClaims(ctx context.Context) error {
	claims := &karpv1.NodeClaimList{}
	if err := c.Client.List(ctx, claims); err != nil {
		return fmt.Errorf("listing nodeclaims, %w", err)
	}
	for i := range claims.Items {
		if err := c.nodeClaim(ctx, &claims.Items[i]); err != nil {
			return fmt.Errorf("cleaning nodeclaim %s, %w", claims.Items[i].Name, err)
		}
	}
	return nil
}

func (c *Cleaner) nodeClaim(ctx context.Context, claim *karpv1.NodeClaim) error {
	if _, replacement := claim.Labels[v1alpha1.NodeRepairLabel]; replacement {
		// The label goes last: by it the replacement is found should this fail.
		if err := c.executor().Release(ctx, claim.Name, claim.Status.NodeName, claim.Labels[karpv1.NodePoolLabelKey]); err != nil {
			return err //nolint:wrapcheck // says what it did
		}
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(claim), claim); err != nil {
			return client.IgnoreNotFound(err)
		}
		if err := c.change(ctx, claim, c.patch, func() bool { return dropLabel(claim) }); err != nil {
			return err
		}
	}
	return c.change(ctx, claim, c.patchStatus, func() bool { return dropConditions(claim) })
}

// nodes takes fences, guards and our label away.
func (c *Cleaner) nodes(ctx context.Context) error {
	nodes := &corev1.NodeList{}
	if err := c.Client.List(ctx, nodes); err != nil {
		return fmt.Errorf("listing nodes, %w", err)
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if n.Annotations[v1alpha1.FenceOwnerAnnotation] != "" {
			c.say(ctx, "taking a fence away", "Node", n.Name)
			if err := c.executor().Unfence(ctx, n.Name, ""); err != nil {
				return fmt.Errorf("cleaning node %s, %w", n.Name, err)
			}
			if err := c.Client.Get(ctx, client.ObjectKeyFromObject(n), n); err != nil {
				if client.IgnoreNotFound(err) != nil {
					return fmt.Errorf("cleaning node %s, %w", n.Name, err)
				}
				continue
			}
		}
		if err := c.change(ctx, n, c.patch, func() bool { return dropMarks(n) }); err != nil {
			return fmt.Errorf("cleaning node %s, %w", n.Name, err)
		}
	}
	return nil
}

// dropLabel says whether there was one.
func dropLabel(object metav1.Object) bool {
	labels := object.GetLabels()
	_, had := labels[v1alpha1.NodeRepairLabel]
	delete(labels, v1alpha1.NodeRepairLabel)
	return had
}

// dropMarks takes away what may stand on a Node beside a fence, and says whether anything did: the guard, with the
// karpenter.sh/do-not-repair that is its; our label; a taint whose fence somebody has taken away by hand.
func dropMarks(n *corev1.Node) bool {
	changed := dropLabel(n)
	if _, guarded := n.Annotations[v1alpha1.GuardedAnnotation]; guarded {
		delete(n.Annotations, v1alpha1.GuardedAnnotation)
		delete(n.Annotations, karpv1.DoNotRepairAnnotationKey)
		changed = true
	}
	before := len(n.Spec.Taints)
	n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.UnhealthyTaintKey })
	return changed || len(n.Spec.Taints) != before
}

// dropConditions takes our conditions away, and says whether there were any.
func dropConditions(claim *karpv1.NodeClaim) bool {
	before := len(claim.Status.Conditions)
	claim.Status.Conditions = slices.DeleteFunc(claim.Status.Conditions, func(s status.Condition) bool { return strings.HasPrefix(s.Type, v1alpha1.Group+"/") })
	return len(claim.Status.Conditions) != before
}

// end cancels a repair, and says whether it had not ended yet.
func end(r *v1alpha1.NodeRepair, now time.Time) bool {
	if r.Finished() {
		return false
	}
	message := "the controller was uninstalled before the node was terminated; its fence was taken away"
	if !r.CanBeLetGo() {
		message = fmt.Sprintf("the controller was uninstalled in phase %s: Karpenter ends what has begun, and nobody has looked whether it helped", r.Status.Phase)
	}
	at := metav1.NewTime(now)
	r.Status.FinishedAt, r.Status.NextAttemptAt = &at, nil
	r.Status.Phase, r.Status.Message = v1alpha1.PhaseCanceled, message
	meta.SetStatusCondition(&r.Status.Conditions, metav1.Condition{
		Type: v1alpha1.RepairConditionSucceeded, Status: metav1.ConditionFalse, Reason: string(v1alpha1.PhaseCanceled), Message: message,
		ObservedGeneration: r.Generation, LastTransitionTime: at,
	})
	return true
}
