// Package execution takes each unfinished NodeRepair as far as it goes, whenever something that it waits for changes.
package execution

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/repair"
)

// repairsAtOnce is how many repairs take a step at the same time; the budget says how many there are. In a storm the
// fences, on which the time of the whole rests, are so set before the first replacements are made.
const repairsAtOnce = 100

// Controller drives the executor.
type Controller struct {
	kubeClient client.Client
	executor   *repair.Executor
	written    sync.Map // UID of a NodeRepair -> the version that we wrote last
}

// NewController makes the controller of an executor.
func NewController(kubeClient client.Client, executor *repair.Executor) *Controller {
	return &Controller{kubeClient: kubeClient, executor: executor}
}

// Name of the controller.
func (*Controller) Name() string { return "noderepair.execution" }

// Reconcile takes one repair as far as it goes now.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	nodeRepair := &v1alpha1.NodeRepair{}
	if err := c.kubeClient.Get(ctx, request.NamespacedName, nodeRepair); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err) //nolint:wrapcheck // names the object
	}
	if c.behind(nodeRepair) {
		return reconcile.Result{RequeueAfter: conflictPause}, nil
	}
	if nodeRepair.Finished() || !nodeRepair.DeletionTimestamp.IsZero() {
		c.written.Delete(nodeRepair.UID)
		return reconcile.Result{}, nil
	}
	again, err := c.executor.Step(ctx, nodeRepair)
	c.written.Store(nodeRepair.UID, nodeRepair.ResourceVersion)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		// The cache is behind, or somebody else wrote; what changed brings us back, and this makes sure of it.
		return reconcile.Result{RequeueAfter: conflictPause}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("repairing NodeClaim %s, %w", nodeRepair.Spec.NodeClaim.Name, err)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// behind says whether the cache shows an older version than we wrote: a step from there would be done in vain.
func (c *Controller) behind(nodeRepair *v1alpha1.NodeRepair) bool {
	written, ok := c.written.Load(nodeRepair.UID)
	if !ok {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(nodeRepair.ResourceVersion, written.(string))
	return err == nil && order < 0
}

// Register adds the controller to the manager.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m). //nolint:wrapcheck // the caller names the controller
								Named(c.Name()).
								For(&v1alpha1.NodeRepair{}).
								Watches(&karpv1.NodeClaim{}, handler.EnqueueRequestsFromMapFunc(c.repairsOfNodeClaim)).
								Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(c.repairsOfNode)).
								Watches(&v1alpha1.NodeHealth{}, handler.EnqueueRequestsFromMapFunc(c.repairsOfNode)).
								Watches(&v1alpha1.RepairPolicy{}, handler.EnqueueRequestsFromMapFunc(c.allRepairs)).
								Watches(&v1alpha1.RepairPause{}, handler.EnqueueRequestsFromMapFunc(c.allRepairs)).
								Watches(&karpv1.NodePool{}, handler.EnqueueRequestsFromMapFunc(c.repairsOfNodePool), builder.WithPredicates(predicate.AnnotationChangedPredicate{})).
								WithOptions(controller.Options{MaxConcurrentReconciles: repairsAtOnce, RateLimiter: rateLimiter()}).
								Complete(c)
}

// repairsOfNodeClaim gives the repair that a replacement names, and those of a NodeClaim that is repaired.
func (c *Controller) repairsOfNodeClaim(ctx context.Context, object client.Object) []reconcile.Request {
	if name := object.GetLabels()[v1alpha1.NodeRepairLabel]; name != "" {
		return append(c.unfinished(ctx, func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodeClaim.UID == object.GetUID() }),
			reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	}
	return c.unfinished(ctx, func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodeClaim.UID == object.GetUID() })
}

func (c *Controller) repairsOfNode(ctx context.Context, object client.Object) []reconcile.Request {
	return c.unfinished(ctx, func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodeName == object.GetName() })
}

// repairsOfNodePool gives the repairs of a NodePool whose annotations have changed: it may have been paused.
func (c *Controller) repairsOfNodePool(ctx context.Context, object client.Object) []reconcile.Request {
	return c.unfinished(ctx, func(r *v1alpha1.NodeRepair) bool { return r.Spec.NodePool == object.GetName() })
}

func (c *Controller) allRepairs(ctx context.Context, _ client.Object) []reconcile.Request {
	return c.unfinished(ctx, func(*v1alpha1.NodeRepair) bool { return true })
}

// unfinished repairs that match. There are few at any time, and the list comes from the cache without a copy.
func (c *Controller) unfinished(ctx context.Context, matches func(*v1alpha1.NodeRepair) bool) []reconcile.Request {
	list := &v1alpha1.NodeRepairList{}
	if err := c.kubeClient.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil // the repair looks again by itself
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if r := &list.Items[i]; !r.Finished() && matches(r) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: r.Name}})
		}
	}
	return requests
}
