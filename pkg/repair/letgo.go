package repair

import (
	"context"
	"fmt"

	"github.com/samber/lo"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// letGo undoes the fence and withdraws a replacement that nobody uses, on the way to an end without the node's.
func (e *Executor) letGo(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	if reboots(repair) {
		if err := e.undoReboot(ctx, repair); err != nil {
			return progress{}, err
		}
	} else if err := e.settleReplacement(ctx, repair); err != nil {
		return progress{}, err
	}
	drop := []string{}
	if repair.Status.Outcome == v1alpha1.PhaseFailed {
		// What a person asked for has been tried; it must not be tried for ever.
		drop = append(drop, v1alpha1.RepairRequestAnnotation)
		if err := e.dropRequest(ctx, repair); err != nil {
			return progress{}, err
		}
	}
	if err := e.Unfence(ctx, repair.Spec.NodeName, repair.UID, drop...); err != nil {
		return progress{}, err
	}
	return e.finish(repair, repair.Status.Outcome, repair.Status.Message), nil
}

// settleReplacement withdraws the replacement, or releases it where pods have come to it.
func (e *Executor) settleReplacement(ctx context.Context, repair *v1alpha1.NodeRepair) error {
	r := current(repair)
	if r == nil {
		// A replacement may have been made by a try that crashed before it wrote so.
		next := replacementName(repair, int32(len(repair.Status.Replacements))+1)
		return e.deleteReplacement(ctx, next)
	}
	claim := &karpv1.NodeClaim{}
	err := e.Reader.Get(ctx, client.ObjectKey{Name: r.NodeClaim}, claim)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("getting the replacement, %w", err)
	}
	if err == nil {
		used, err := e.used(ctx, claim.Status.NodeName)
		if err != nil {
			return err
		}
		if used {
			r.Message = "kept: pods have come to it"
			return e.Release(ctx, claim.Name, claim.Status.NodeName, repair.Spec.NodePool)
		}
	}
	if err := e.deleteReplacement(ctx, r.NodeClaim); err != nil {
		return err
	}
	r.WithdrawnAt, r.Message = lo.ToPtr(metav1.NewTime(e.Clock.Now())), truncate("withdrawn: "+repair.Status.Message)
	return nil
}

// WithdrawLate deletes a replacement that its repair, which has ended, knows nothing of; false where pods have come to it.
func (e *Executor) WithdrawLate(ctx context.Context, claim *karpv1.NodeClaim) (bool, error) {
	used, err := e.used(ctx, claim.Status.NodeName)
	if err != nil || used {
		return false, err
	}
	uid := claim.UID
	if err := e.Client.Delete(ctx, claim, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("withdrawing a late replacement, %w", err)
	}
	return true, nil
}

// dropRequest removes a person's request for this repair from the NodeClaim.
func (e *Executor) dropRequest(ctx context.Context, repair *v1alpha1.NodeRepair) error {
	claim, err := nodeClaim(ctx, e.Client, repair)
	if err != nil || claim == nil || claim.Annotations[v1alpha1.RepairRequestAnnotation] == "" {
		return err
	}
	lift := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, v1alpha1.RepairRequestAnnotation))
	if err := e.Client.Patch(ctx, claim, lift); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("removing the request for repair, %w", err)
	}
	return nil
}
