package repair

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/samber/lo"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	// terminateFirst is the reason of a Provisioned that is True although nothing was made: the node goes first.
	terminateFirst = "TerminateFirst"
	// notRefilled is the reason of a Verified that is False because Karpenter has put nothing in the node's place.
	notRefilled = "NotRefilled"
	// refilledWithin is how long pods that were evicted may wait for a new node before we take it that they found a
	// place elsewhere. Karpenter gathers pending pods for 10 s at most before it launches for them.
	refilledWithin = time.Minute
	// maxRefills is how many NodeClaims that were given up are kept of one repair, as the API takes.
	maxRefills = 20
)

// refills keeps two repairs from taking the same NodeClaim for theirs before the cache shows the choice of the first.
type refills struct {
	mu    sync.Mutex
	taken map[string]types.UID // name of a NodeClaim -> UID of the repair
}

// refill waits for the NodeClaim that Karpenter makes of its own accord once a node has gone first. A static NodePool is
// refilled in any case; for others Karpenter makes a node where the pods need one. It is watched as a replacement of
// ours would be, since only so does the repair prove anything.
func (e *Executor) refill(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	pool, err := e.refillingPool(ctx, repair)
	if err != nil {
		return progress{}, err
	}
	static := pool != nil && pool.Spec.Replicas != nil
	if pool == nil || (!static && repair.Spec.Replacements == 0) {
		return e.released(repair, "NotNeeded", "nothing has to take the node's place"), nil
	}
	r := current(repair)
	if r == nil {
		if r, err = e.adopt(ctx, repair); err != nil {
			return progress{}, err
		}
	}
	gone := e.since(repair, v1alpha1.RepairConditionTerminated)
	if r == nil {
		deadline := gone.Add(refilledWithin)
		if static {
			deadline = gone.Add(e.refillTimeout(repair))
		}
		if left := deadline.Sub(e.Clock.Now()); left > 0 {
			repair.Status.Message = fmt.Sprintf("the node is gone; waiting for Karpenter to refill NodePool %q, until %s", pool.Name, stamp(deadline))
			return wait(min(left, lookAgain)), nil
		}
		if static {
			return e.notRefilled(repair, fmt.Sprintf("the node is gone, and Karpenter has not refilled the static NodePool %q since %s", pool.Name, stamp(gone))), nil
		}
		return e.released(repair, "NotNeeded", "the pods found a place without a new node"), nil
	}
	return e.refillStands(ctx, repair, r, gone)
}

// refillingPool is the NodePool from which Karpenter refills; nil where there is none.
func (e *Executor) refillingPool(ctx context.Context, repair *v1alpha1.NodeRepair) (*karpv1.NodePool, error) {
	if repair.Spec.NodePool == "" {
		return nil, nil
	}
	pool := &karpv1.NodePool{}
	if err := e.Client.Get(ctx, client.ObjectKey{Name: repair.Spec.NodePool}, pool); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("getting the nodepool, %w", err)
	}
	return pool, nil
}

// refillStands waits until the NodeClaim is Initialized. One that goes before, because it could not launch, is given up
// for the next that Karpenter makes.
func (e *Executor) refillStands(ctx context.Context, repair *v1alpha1.NodeRepair, r *v1alpha1.ReplacementStatus, gone time.Time) (progress, error) {
	now := e.Clock.Now()
	claim := &karpv1.NodeClaim{}
	err := e.Client.Get(ctx, client.ObjectKey{Name: r.NodeClaim}, claim)
	switch {
	case apierrors.IsNotFound(err) || (err == nil && !claim.DeletionTimestamp.IsZero()):
		r.WithdrawnAt, r.Message = lo.ToPtr(metav1.NewTime(now)), "it went before it stood"
		return wait(time.Second), nil
	case err != nil:
		return progress{}, fmt.Errorf("getting the refill, %w", err)
	}
	if sick := sickOf(claim); sick != "" {
		return e.notVerified(repair, sicknessOf(repair, claim), truncate(fmt.Sprintf("NodeClaim %s, by which Karpenter refilled the node's place, came up sick: %s", claim.Name, sick))), nil
	}
	if r.LaunchedAt == nil && launched(claim) {
		r.LaunchedAt = lo.ToPtr(metav1.NewTime(now))
	}
	if claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
		r.InitializedAt, r.NodeName = lo.ToPtr(metav1.NewTime(now)), claim.Status.NodeName
		e.setCondition(repair, v1alpha1.RepairConditionReleased, metav1.ConditionTrue, "Refilled", fmt.Sprintf("NodeClaim %s has taken the node's place", claim.Name))
		return e.toVerify(repair), nil
	}
	deadline := gone.Add(e.refillTimeout(repair))
	if now.Before(deadline) {
		repair.Status.Message = toInitialize(claim, deadline)
		return wait(min(deadline.Sub(now), lookAgain)), nil
	}
	return e.notRefilled(repair, fmt.Sprintf("the node is gone, and NodeClaim %s, by which Karpenter refills its place, was not Initialized until %s", claim.Name, stamp(deadline))), nil
}

// refillTimeout is as long as a replacement of ours would be waited for.
func (*Executor) refillTimeout(repair *v1alpha1.NodeRepair) time.Duration {
	return repair.Spec.Replacement.LaunchWithin() + repair.Spec.Replacement.InitializeWithin()
}

// released goes on without a NodeClaim to watch.
func (e *Executor) released(repair *v1alpha1.NodeRepair, reason, message string) progress {
	e.setCondition(repair, v1alpha1.RepairConditionReleased, metav1.ConditionTrue, reason, message)
	return to(repair, v1alpha1.PhaseVerifying, "the node is gone; "+message)
}

func (e *Executor) notRefilled(repair *v1alpha1.NodeRepair, message string) progress {
	return e.notVerified(repair, notRefilled, message)
}

// notVerified ends a repair whose node is gone and whose outcome speaks against the next.
func (e *Executor) notVerified(repair *v1alpha1.NodeRepair, reason, message string) progress {
	e.setCondition(repair, v1alpha1.RepairConditionVerified, metav1.ConditionFalse, reason, message)
	return e.finish(repair, v1alpha1.PhaseFailed, message)
}

// adopt takes the oldest NodeClaim that Karpenter has made in the NodePool since the node was given up, and that no
// other repair watches; nil where there is none.
func (e *Executor) adopt(ctx context.Context, repair *v1alpha1.NodeRepair) (*v1alpha1.ReplacementStatus, error) {
	if len(repair.Status.Replacements) >= maxRefills {
		return nil, nil
	}
	e.refills.mu.Lock()
	defer e.refills.mu.Unlock()
	taken, err := e.refillsTaken(ctx, repair)
	if err != nil {
		return nil, err
	}
	claims := &karpv1.NodeClaimList{}
	if err := e.Client.List(ctx, claims, client.MatchingLabels{karpv1.NodePoolLabelKey: repair.Spec.NodePool}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the nodeclaims of the nodepool, %w", err)
	}
	// The API keeps whole seconds.
	since := e.givenUp(repair).Truncate(time.Second)
	var oldest *karpv1.NodeClaim
	for i := range claims.Items {
		claim := &claims.Items[i]
		if claim.CreationTimestamp.Time.Before(since) || claim.Labels[v1alpha1.NodeRepairLabel] != "" || !claim.DeletionTimestamp.IsZero() || taken[claim.Name] {
			continue
		}
		if oldest == nil || cmp.Or(claim.CreationTimestamp.Compare(oldest.CreationTimestamp.Time), cmp.Compare(claim.Name, oldest.Name)) < 0 {
			oldest = claim
		}
	}
	if oldest == nil {
		return nil, nil
	}
	if e.refills.taken == nil {
		e.refills.taken = map[string]types.UID{}
	}
	e.refills.taken[oldest.Name] = repair.UID
	repair.Status.Replacements = append(repair.Status.Replacements, v1alpha1.ReplacementStatus{
		NodeClaim: oldest.Name, Attempt: int32(len(repair.Status.Replacements)) + 1, CreatedAt: &oldest.CreationTimestamp,
	})
	return current(repair), nil
}

// givenUp is when the repair turned to the node's end: the last write before the delete.
func (e *Executor) givenUp(repair *v1alpha1.NodeRepair) time.Time {
	if condition := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionProvisioned); condition != nil {
		return condition.LastTransitionTime.Time
	}
	return e.since(repair, v1alpha1.RepairConditionTerminated)
}

// refillsTaken are the NodeClaims that other repairs watch, and those that this one has given up. What is remembered of
// repairs that are gone is forgotten.
func (e *Executor) refillsTaken(ctx context.Context, repair *v1alpha1.NodeRepair) (map[string]bool, error) {
	repairs := &v1alpha1.NodeRepairList{}
	if err := e.Client.List(ctx, repairs, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing noderepairs, %w", err)
	}
	taken, atWork := map[string]bool{}, map[types.UID]bool{}
	for i := range repairs.Items {
		r := &repairs.Items[i]
		atWork[r.UID] = !r.Finished()
		for _, replacement := range r.Status.Replacements {
			taken[replacement.NodeClaim] = true
		}
	}
	for _, replacement := range repair.Status.Replacements {
		taken[replacement.NodeClaim] = true
	}
	for name, by := range e.refills.taken {
		switch {
		case !atWork[by]:
			delete(e.refills.taken, name)
		case by != repair.UID:
			taken[name] = true
		}
	}
	return taken, nil
}
