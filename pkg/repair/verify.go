package repair

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// verify waits until the replacement has stayed free of Fatal findings long enough for the repair to count.
func (e *Executor) verify(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	if reboots(repair) {
		return e.verifyReboot(ctx, repair)
	}
	verified := func(status metav1.ConditionStatus, reason, message string) (progress, error) {
		e.setCondition(repair, v1alpha1.RepairConditionVerified, status, reason, message)
		return e.finish(repair, v1alpha1.PhaseSucceeded, message), nil
	}
	r := current(repair)
	if r == nil {
		return verified(metav1.ConditionTrue, v1alpha1.VerifiedNotNeeded, "the node is gone, and nothing had to take its place")
	}
	claim := &karpv1.NodeClaim{}
	err := e.Client.Get(ctx, client.ObjectKey{Name: r.NodeClaim}, claim)
	switch {
	case apierrors.IsNotFound(err) || (err == nil && !claim.DeletionTimestamp.IsZero()):
		return verified(metav1.ConditionUnknown, v1alpha1.VerifiedReplacementGone, fmt.Sprintf("the node is gone; NodeClaim %s was removed before it had been watched long enough", r.NodeClaim))
	case err != nil:
		return progress{}, fmt.Errorf("getting the replacement, %w", err)
	}
	if sick := sickOf(claim); sick != "" {
		message := truncate(fmt.Sprintf("the replacement %s turned sick: %s", claim.Name, sick))
		e.setCondition(repair, v1alpha1.RepairConditionVerified, metav1.ConditionFalse, sicknessOf(repair, claim), message)
		return e.finish(repair, v1alpha1.PhaseFailed, message), nil
	}
	watched := repair.Spec.Replacement.WatchFor()
	if left := watched - e.Clock.Since(e.since(repair, v1alpha1.RepairConditionReleased)); left > 0 {
		return wait(left), nil
	}
	return verified(metav1.ConditionTrue, v1alpha1.VerifiedHealthy, fmt.Sprintf("the replacement %s has been healthy for %s", claim.Name, watched))
}
