package repair

import (
	"context"
	"fmt"
	"time"

	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// wait waits until the replacement is Initialized and the fence has stood long enough, looks once more past the cache
// whether the node is still sick, still ours and still within the budget, and deletes it.
func (e *Executor) wait(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	if reboots(repair) {
		return e.waitToReboot(ctx, repair)
	}
	if stop, err := e.stopped(ctx, repair); err != nil || stop {
		return through, err
	}
	if !isTrue(repair, v1alpha1.RepairConditionProvisioned) {
		if standing, p, err := e.standing(ctx, repair); err != nil || !standing {
			return p, err
		}
	}
	claim, p, err := e.mayGo(ctx, repair)
	if err != nil || claim == nil {
		return p, err
	}
	return e.deleteNodeClaim(ctx, repair, claim)
}

// mayGo gives the NodeClaim as it was right before the last look, where its node may be disrupted now: only that version
// of it may be. Where it may not, the NodeClaim is nil, and progress is what the repair has come to instead.
func (e *Executor) mayGo(ctx context.Context, repair *v1alpha1.NodeRepair) (*karpv1.NodeClaim, progress, error) {
	if left := e.standsUntil(repair).Sub(e.Clock.Now()); left > 0 {
		repair.Status.Message = fmt.Sprintf("waiting until %s, so that whatever Karpenter had decided about the node shows itself", stamp(e.Clock.Now().Add(left)))
		return nil, wait(left), nil
	}
	if left := e.since(repair, v1alpha1.RepairConditionFenced).Add(launchesFirst).Sub(e.Clock.Now()); left > 0 {
		if launching, err := e.othersLaunch(ctx, repair); err != nil || launching {
			repair.Status.Message = "waiting until the replacements of other nodes have launched: Karpenter is stalled meanwhile"
			return nil, wait(min(left, time.Second)), err
		}
	}
	claim, err := nodeClaim(ctx, e.Reader, repair)
	if err != nil || (claim == nil && e.taken(repair, nil, nil)) {
		return nil, through, err
	}
	against, err := e.recheck(ctx, repair)
	switch {
	case err != nil:
		return nil, progress{}, err
	case len(lo.Reject(against, isBudget)) > 0:
		letGoAs(repair, v1alpha1.PhaseCanceled, sentences(against))
		return nil, through, nil
	case len(against) > 0:
		repair.Status.Message = sentences(against)
		return nil, wait(lookAgain), nil
	}
	return claim, through, nil
}

// standing says whether the replacement is Initialized and healthy.
func (e *Executor) standing(ctx context.Context, repair *v1alpha1.NodeRepair) (bool, progress, error) {
	r := current(repair)
	if r == nil {
		return false, to(repair, v1alpha1.PhaseProvisioning, "a replacement is about to be made"), nil
	}
	claim, p, err := e.replacement(ctx, repair, r)
	if err != nil || claim == nil {
		return false, p, err
	}
	if sick := sickOf(claim); sick != "" {
		e.setCondition(repair, v1alpha1.RepairConditionVerified, metav1.ConditionFalse, sicknessOf(repair, claim), truncate(fmt.Sprintf("the replacement %s came up sick: %s", claim.Name, sick)))
		p, err := e.withdraw(ctx, repair, r, "it came up sick: "+sick)
		return false, p, err
	}
	now := e.Clock.Now()
	if !claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
		deadline := initializeDeadline(repair, r, claim)
		if now.Before(deadline) {
			repair.Status.Message = toInitialize(claim, deadline)
			return false, wait(min(deadline.Sub(now), lookAgain)), nil
		}
		p, err := e.withdraw(ctx, repair, r, fmt.Sprintf("it was not Initialized until %s", stamp(deadline)))
		return false, p, err
	}
	r.InitializedAt, r.NodeName = lo.ToPtr(metav1.NewTime(now)), claim.Status.NodeName
	e.setCondition(repair, v1alpha1.RepairConditionProvisioned, metav1.ConditionTrue, "Initialized", fmt.Sprintf("NodeClaim %s is Initialized: node %s", claim.Name, claim.Status.NodeName))
	return true, through, nil
}

func initializeDeadline(repair *v1alpha1.NodeRepair, r *v1alpha1.ReplacementStatus, claim *karpv1.NodeClaim) time.Time {
	launched := madeAt(r, claim)
	if r.LaunchedAt != nil {
		launched = r.LaunchedAt.Time
	}
	return launched.Add(repair.Spec.Replacement.InitializeWithin())
}

func toInitialize(claim *karpv1.NodeClaim, deadline time.Time) string {
	return fmt.Sprintf("waiting for NodeClaim %s to be Initialized, until %s", claim.Name, stamp(deadline))
}

// sickOf says what is wrong with a NodeClaim by its own conditions; empty where nothing is known to be.
func sickOf(claim *karpv1.NodeClaim) string {
	for _, category := range health.Categories {
		if condition := claim.StatusConditions().Get(health.ConditionType(category)); condition.IsFalse() {
			return condition.Message
		}
	}
	return ""
}

// recheck looks at everything once more, at the node past the cache.
func (e *Executor) recheck(ctx context.Context, repair *v1alpha1.NodeRepair) ([]decision.Blocker, error) {
	in, err := e.Snapshot.Gather(ctx)
	if err != nil {
		return nil, fmt.Errorf("gathering for the last look, %w", err)
	}
	if err := e.Snapshot.Refresh(ctx, e.Reader, &in, repair.Spec.NodeClaim.Name); err != nil {
		return nil, fmt.Errorf("refreshing for the last look, %w", err)
	}
	return decision.Recheck(in, repair.Spec.NodeClaim.UID), nil
}

// deleteNodeClaim deletes it in the version that was there before the last look. A process that was frozen since then may
// lead no longer, and the node may have recovered: what the other replica has written of that makes the delete fail.
func (e *Executor) deleteNodeClaim(ctx context.Context, repair *v1alpha1.NodeRepair, claim *karpv1.NodeClaim) (progress, error) {
	n, err := node(ctx, e.Reader, repair.Spec.NodeName)
	if err != nil {
		return progress{}, err
	}
	if e.taken(repair, claim, n) {
		return through, nil
	}
	only := client.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion}
	if err := e.Client.Delete(ctx, claim, only); client.IgnoreNotFound(err) != nil {
		return progress{}, fmt.Errorf("deleting the nodeclaim, %w", err)
	}
	e.setCondition(repair, v1alpha1.RepairConditionTerminated, metav1.ConditionFalse, "Draining", "the NodeClaim is deleted; Karpenter drains the node")
	return to(repair, v1alpha1.PhaseTerminating, "the NodeClaim is deleted; Karpenter drains the node"), nil
}
