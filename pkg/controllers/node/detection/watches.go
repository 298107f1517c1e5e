package detection

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
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

// Register watches what the detectors look at. Leases are not watched for their own sake: they are counted again
// while a Node's Ready is Unknown.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m).
		Named(c.Name()).
		For(&corev1.Node{}, builder.WithPredicates(nodeChanged())).
		Watches(&v1alpha1.NodeHealth{}, &handler.EnqueueRequestForObject{}).
		Watches(&karpv1.NodeClaim{}, handler.EnqueueRequestsFromMapFunc(nodeOfClaim), builder.WithPredicates(claimChanged())).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(nodeOfPod), builder.WithPredicates(terminating())).
		WithOptions(controller.Options{MaxConcurrentReconciles: 20}).
		Complete(c)
}

func request(node string) []reconcile.Request {
	if node == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: node}}}
}

func nodeOfClaim(_ context.Context, o client.Object) []reconcile.Request {
	return request(o.(*karpv1.NodeClaim).Status.NodeName)
}

func nodeOfPod(_ context.Context, o client.Object) []reconcile.Request {
	return request(o.(*corev1.Pod).Spec.NodeName)
}

// nodeChanged leaves out heartbeats, which are most changes of a Node.
func nodeChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)
		return before.UID != after.UID || before.Spec.ProviderID != after.Spec.ProviderID ||
			requestOf(before) != requestOf(after) ||
			!equality.Semantic.DeepEqual(before.Labels, after.Labels) ||
			conditionsDiffer(before.Status.Conditions, after.Status.Conditions)
	}}
}

func conditionsDiffer(before, after []corev1.NodeCondition) bool {
	if len(before) != len(after) {
		return true
	}
	for i := range before {
		a, b := before[i], after[i]
		a.LastHeartbeatTime = b.LastHeartbeatTime
		if !equality.Semantic.DeepEqual(a, b) {
			return true
		}
	}
	return false
}

// claimChanged leaves out what the detectors do not look at, our own conditions above all.
func claimChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*karpv1.NodeClaim), e.ObjectNew.(*karpv1.NodeClaim)
		if before.Status.NodeName != after.Status.NodeName || before.Status.ProviderID != after.Status.ProviderID || requestOf(before) != requestOf(after) {
			return true
		}
		for _, conditionType := range []string{karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized} {
			if claimCondition(before, conditionType) != claimCondition(after, conditionType) {
				return true
			}
		}
		return false
	}}
}

// claimCondition gives status, reason and message of a condition.
func claimCondition(nodeClaim *karpv1.NodeClaim, conditionType string) [3]string {
	for _, condition := range nodeClaim.Status.Conditions {
		if condition.Type == conditionType {
			return [3]string{string(condition.Status), condition.Reason, condition.Message}
		}
	}
	return [3]string{}
}

// requestOf gives the annotation by which a person asks for a repair, and whether it is there at all.
func requestOf(o client.Object) [2]string {
	value, ok := o.GetAnnotations()[v1alpha1.RepairRequestAnnotation]
	if !ok {
		return [2]string{}
	}
	return [2]string{"there", value}
}

// terminating lets pods through that are being deleted, and those that are gone.
func terminating() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return !o.GetDeletionTimestamp().IsZero() })
}
