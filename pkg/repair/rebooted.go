package repair

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// releaseRebooted takes the rest of the fence away once pods have come back to the node, or none has for a while: the
// drain has emptied it, and Karpenter would remove an empty node at once.
func (e *Executor) releaseRebooted(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	claim, n, err := e.read(ctx, e.Client, repair)
	if err != nil {
		return progress{}, err
	}
	if claim != nil && n != nil && claim.DeletionTimestamp.IsZero() {
		used, err := e.used(ctx, n.Name)
		if err != nil {
			return progress{}, err
		}
		initialized := claim.StatusConditions().Get(karpv1.ConditionTypeInitialized)
		if left := emptyFor - e.Clock.Since(initialized.LastTransitionTime.Time); !used && left > 0 {
			left = min(left, emptyFor)
			repair.Status.Message = fmt.Sprintf("waiting for pods to come back to node %s, until %s", n.Name, stamp(e.Clock.Now().Add(left)))
			return wait(min(left, time.Second)), nil
		}
	}
	if err := e.undoReboot(ctx, repair); err != nil {
		return progress{}, err
	}
	drop, err := e.doneRequest(ctx, repair)
	if err != nil {
		return progress{}, err
	}
	if err := e.Unfence(ctx, repair.Spec.NodeName, repair.UID, drop...); err != nil {
		return progress{}, err
	}
	e.setCondition(repair, v1alpha1.RepairConditionReleased, metav1.ConditionTrue, "Released", "the node is a node like any other")
	until := e.Clock.Now().Add(repair.Spec.Replacement.WatchFor())
	return to(repair, v1alpha1.PhaseVerifying, fmt.Sprintf("the rebooted node must stay healthy until %s", stamp(until))), nil
}

// undoReboot takes the bound of the drain off the NodeClaim, unless a reboot is on its way.
func (e *Executor) undoReboot(ctx context.Context, repair *v1alpha1.NodeRepair) error {
	claim, err := nodeClaim(ctx, e.Reader, repair)
	if err != nil || claim == nil || Rebooting(claim).IsTrue() {
		return err
	}
	return client.IgnoreNotFound(boundReboot(ctx, e.Client, claim, nil))
}

// doneRequest removes a person's request for the reboot from the NodeClaim, and gives what goes from the Node.
func (e *Executor) doneRequest(ctx context.Context, repair *v1alpha1.NodeRepair) ([]string, error) {
	claim, n, err := e.read(ctx, e.Reader, repair)
	if err != nil {
		return nil, err
	}
	if claim != nil && claim.Annotations[v1alpha1.RepairRequestAnnotation] == string(v1alpha1.ActionReboot) {
		if err := e.dropRequest(ctx, repair); err != nil {
			return nil, err
		}
	}
	if n != nil && n.Annotations[v1alpha1.RepairRequestAnnotation] == string(v1alpha1.ActionReboot) {
		return []string{v1alpha1.RepairRequestAnnotation}, nil
	}
	return nil, nil
}

// verifyReboot waits until the node has stayed free of Fatal findings long enough for the reboot to count.
func (e *Executor) verifyReboot(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	claim, err := nodeClaim(ctx, e.Client, repair)
	if err != nil {
		return progress{}, err
	}
	if claim == nil || !claim.DeletionTimestamp.IsZero() {
		message := "the node has rebooted, and its NodeClaim was deleted before it had been watched long enough"
		e.setCondition(repair, v1alpha1.RepairConditionVerified, metav1.ConditionUnknown, "NodeGone", message)
		return e.finish(repair, v1alpha1.PhaseYielded, message), nil
	}
	if sick := sickOf(claim); sick != "" {
		return e.stillSick(ctx, repair, sick)
	}
	// The condition flips when the last of the old findings goes, and the watch begins.
	e.setCondition(repair, v1alpha1.RepairConditionVerified, metav1.ConditionUnknown, "Watched", "nothing Fatal is found on the rebooted node")
	watched := repair.Spec.Replacement.WatchFor()
	if left := watched - e.Clock.Since(e.since(repair, v1alpha1.RepairConditionVerified)); left > 0 {
		repair.Status.Message = fmt.Sprintf("the rebooted node must stay healthy until %s", stamp(e.Clock.Now().Add(left)))
		return wait(left), nil
	}
	message := fmt.Sprintf("the node has rebooted and been healthy for %s", watched)
	e.setCondition(repair, v1alpha1.RepairConditionVerified, metav1.ConditionTrue, v1alpha1.VerifiedHealthy, message)
	return e.finish(repair, v1alpha1.PhaseSucceeded, message), nil
}

// stillSick waits a while for findings of the boot before to go. What stands then, the reboot has not cured.
func (e *Executor) stillSick(ctx context.Context, repair *v1alpha1.NodeRepair, sick string) (progress, error) {
	patience, err := e.patience(ctx, repair)
	if err != nil {
		return progress{}, err
	}
	deadline := e.since(repair, v1alpha1.RepairConditionReleased).Add(patience)
	if left := deadline.Sub(e.Clock.Now()); left > 0 {
		repair.Status.Message = truncate(fmt.Sprintf("the node has rebooted; what is found must be gone by %s: %s", stamp(deadline), sick))
		e.setCondition(repair, v1alpha1.RepairConditionVerified, metav1.ConditionFalse, "NotYetHealthy", repair.Status.Message)
		return wait(min(left, lookAgain)), nil
	}
	message := truncate("the reboot did not help: " + sick)
	e.setCondition(repair, v1alpha1.RepairConditionVerified, metav1.ConditionFalse, "StillSick", message)
	return e.finish(repair, v1alpha1.PhaseFailed, message), nil
}

// patience is longer while the agent has not yet spoken of the new boot.
func (e *Executor) patience(ctx context.Context, repair *v1alpha1.NodeRepair) (time.Duration, error) {
	health := &v1alpha1.NodeHealth{}
	err := e.Client.Get(ctx, client.ObjectKey{Name: repair.Spec.NodeName}, health)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("getting the nodehealth, %w", err)
	}
	if err == nil && health.BootID != "" && health.BootID == bootIDBefore(repair) {
		return decision.AgentSpeaks, nil
	}
	return decision.RebootSettles, nil
}
