package repair

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// emptyFor is how long a replacement stays protected after the old node is gone when no pod comes: long enough for the
// scheduler to place what was evicted, short enough not to pay for a node that nobody needs.
const emptyFor = 30 * time.Second

// release lifts the replacement's protection once pods have come to it, or none has for a while.
func (e *Executor) release(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	switch {
	case repair.Spec.TerminateFirst:
		return e.refill(ctx, repair)
	case reboots(repair):
		return e.releaseRebooted(ctx, repair)
	}
	r := current(repair)
	if r == nil {
		e.setCondition(repair, v1alpha1.RepairConditionReleased, metav1.ConditionTrue, "NotNeeded", "there is no replacement to release")
		return to(repair, v1alpha1.PhaseVerifying, "the node is gone"), nil
	}
	claim := &karpv1.NodeClaim{}
	if err := e.Client.Get(ctx, client.ObjectKey{Name: r.NodeClaim}, claim); client.IgnoreNotFound(err) != nil {
		return progress{}, fmt.Errorf("getting the replacement, %w", err)
	}
	if r.NodeName == "" {
		r.NodeName = claim.Status.NodeName
	}
	used, err := e.used(ctx, claim.Status.NodeName)
	if err != nil {
		return progress{}, err
	}
	if left := emptyFor - e.Clock.Since(e.since(repair, v1alpha1.RepairConditionTerminated)); !used && left > 0 && claim.Name != "" {
		repair.Status.Message = fmt.Sprintf("waiting for pods to come to node %s, until %s", claim.Status.NodeName, stamp(e.Clock.Now().Add(left)))
		return wait(min(left, time.Second)), nil
	}
	if err := e.Release(ctx, claim.Name, claim.Status.NodeName, repair.Spec.NodePool); err != nil {
		return progress{}, err
	}
	e.setCondition(repair, v1alpha1.RepairConditionReleased, metav1.ConditionTrue, "Released", "the replacement is a node like any other")
	return e.toVerify(repair), nil
}

func (e *Executor) toVerify(repair *v1alpha1.NodeRepair) progress {
	until := e.Clock.Now().Add(repair.Spec.Replacement.WatchFor())
	return to(repair, v1alpha1.PhaseVerifying, fmt.Sprintf("the replacement must stay healthy until %s", stamp(until)))
}

// used says whether pods that would have to move run on the node.
func (e *Executor) used(ctx context.Context, nodeName string) (bool, error) {
	if nodeName == "" {
		return false, nil
	}
	pods, err := nodeutils.ReschedulablePods(ctx, e.Client, nodeName)
	if err != nil {
		return false, fmt.Errorf("listing the pods of the replacement, %w", err)
	}
	return len(pods) > 0, nil
}

// Release lifts the protection of a replacement from its Node and its NodeClaim, unless its NodePool asks for it.
func (e *Executor) Release(ctx context.Context, claim, nodeName, nodePool string) error {
	pool := &karpv1.NodePool{}
	if err := e.Client.Get(ctx, client.ObjectKey{Name: nodePool}, pool); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("getting the nodepool, %w", err)
	}
	if _, asked := pool.Spec.Template.Annotations[karpv1.DoNotDisruptAnnotationKey]; asked {
		return nil
	}
	lift := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, karpv1.DoNotDisruptAnnotationKey))
	for _, object := range []client.Object{
		&metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: nodeName}},
		&karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: claim}},
	} {
		if object.GetName() == "" {
			continue
		}
		if err := e.Client.Patch(ctx, object, lift); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("lifting the protection of %s, %w", object.GetName(), err)
		}
	}
	return nil
}
