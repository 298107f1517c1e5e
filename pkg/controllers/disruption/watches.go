package disruption

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/util/workqueue"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// debounce gathers the changes of this time into one pass.
const debounce = 200 * time.Millisecond

// everything is the one request: a pass is always about all nodes.
var everything = reconcile.Request{NamespacedName: client.ObjectKey{Name: "nodes"}}

// Register watches all that a decision rests on and that tells of its changes.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m).
		Named(c.Name()).
		Watches(&v1alpha1.NodeHealth{}, onePass(), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Watches(&v1alpha1.RepairPolicy{}, onePass(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.RepairPause{}, onePass(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.NodeRepair{}, onePass(), builder.WithPredicates(phaseChanged())).
		Watches(&karpv1.NodeClaim{}, onePass(), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Watches(&karpv1.NodePool{}, onePass(), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Watches(&corev1.Node{}, onePass(), builder.WithPredicates(nodeChanged())).
		Watches(&policyv1.PodDisruptionBudget{}, onePass(), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Complete(c)
}

// onePass asks for a pass soon, however many changes ask for it.
func onePass() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return handler.Funcs{
		CreateFunc:  func(_ context.Context, _ event.CreateEvent, q queue) { q.AddAfter(everything, debounce) },
		UpdateFunc:  func(_ context.Context, _ event.UpdateEvent, q queue) { q.AddAfter(everything, debounce) },
		DeleteFunc:  func(_ context.Context, _ event.DeleteEvent, q queue) { q.AddAfter(everything, debounce) },
		GenericFunc: func(_ context.Context, _ event.GenericEvent, q queue) { q.AddAfter(everything, debounce) },
	}
}

// phaseChanged leaves out the many writes of a repair that change nothing for other nodes.
func phaseChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.NodeRepair)
		after, okAfter := e.ObjectNew.(*v1alpha1.NodeRepair)
		return !ok || !okAfter || before.Status.Phase != after.Status.Phase || before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero()
	}}
}

// nodeChanged leaves out the kubelets' heartbeats.
func nodeChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Node)
		after, okAfter := e.ObjectNew.(*corev1.Node)
		return !ok || !okAfter ||
			!equality.Semantic.DeepEqual(before.Labels, after.Labels) ||
			!equality.Semantic.DeepEqual(before.Annotations, after.Annotations) ||
			!equality.Semantic.DeepEqual(before.Spec, after.Spec) ||
			before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero()
	}}
}
