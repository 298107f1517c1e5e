package repair

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	nodeclaimutils "sigs.k8s.io/karpenter/pkg/utils/nodeclaim"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// terminate waits until Karpenter has drained and ended the node, and bounds the drain.
func (e *Executor) terminate(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	claim, err := nodeClaim(ctx, e.Client, repair)
	if err != nil {
		return progress{}, err
	}
	if claim == nil || claim.DeletionTimestamp.IsZero() {
		// Gone, or the cache has not seen the delete yet.
		if claim, err = nodeClaim(ctx, e.Reader, repair); err != nil {
			return progress{}, err
		}
	}
	if claim == nil {
		e.setCondition(repair, v1alpha1.RepairConditionTerminated, metav1.ConditionTrue, "Gone", "the node is gone")
		if repair.Spec.TerminateFirst {
			return to(repair, v1alpha1.PhaseReleasing, "the node is gone; Karpenter refills its place"), nil
		}
		return to(repair, v1alpha1.PhaseReleasing, "the node is gone; its pods are moving to the replacement"), nil
	}
	if claim.DeletionTimestamp.IsZero() {
		// Somebody made the delete undone as far as that goes: a restored backup, say. Look at it all again.
		return to(repair, v1alpha1.PhaseWaiting, "the NodeClaim is no longer being deleted; the node is looked at once more"), nil
	}
	late, err := e.tooLate(ctx, repair)
	if err != nil {
		return progress{}, err
	}
	repair.Status.Message = truncate(late + "Karpenter drains the node; PodDisruptionBudgets are honoured without end")
	if bound := repair.Spec.DrainBound; bound != nil {
		deadline := claim.DeletionTimestamp.Add(bound.Duration)
		repair.Status.Message = truncate(fmt.Sprintf("%sKarpenter drains the node; PodDisruptionBudgets are honoured until %s", late, stamp(deadline)))
		// Only ever tightened: what stands there may be an earlier deadline of the NodeClaim's own.
		if err := nodeclaimutils.TightenTerminationTimestampAnnotation(ctx, e.Client, claim, deadline); client.IgnoreNotFound(err) != nil {
			return progress{}, fmt.Errorf("bounding the drain, %w", err)
		}
	}
	return wait(lookAgain), nil
}
