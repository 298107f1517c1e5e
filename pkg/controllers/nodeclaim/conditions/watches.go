package conditions

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// ofNode gives the NodeClaims of the Node that an object is named after.
func (c *Controller) ofNode(ctx context.Context, object client.Object) []reconcile.Request {
	return c.requests(ctx, func(claim *karpv1.NodeClaim) bool { return claim.Status.NodeName == object.GetName() })
}

func (c *Controller) all(ctx context.Context, _ client.Object) []reconcile.Request {
	return c.requests(ctx, func(*karpv1.NodeClaim) bool { return true })
}

func ofRepair(_ context.Context, object client.Object) []reconcile.Request {
	repair, ok := object.(*v1alpha1.NodeRepair)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: repair.Spec.NodeClaim.Name}}}
}

func (c *Controller) requests(ctx context.Context, matches func(*karpv1.NodeClaim) bool) []reconcile.Request {
	list := &karpv1.NodeClaimList{}
	if err := c.kubeClient.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil // a NodeClaim's own changes bring it back
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if matches(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
		}
	}
	return requests
}
