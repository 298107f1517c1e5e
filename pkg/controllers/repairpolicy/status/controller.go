// Package status says of each RepairPolicy whether it can be used as written, and what it governs.
package status

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// settle lets a burst of changes of NodeClaims pass before they are counted.
const settle = time.Second

// Controller writes the status of RepairPolicies.
type Controller struct {
	clock      clock.Clock
	kubeClient client.Client
	reasons    []string
	known      func(reason string) bool
}

// NewController makes the writer of the policies' status. known says whether the catalogue has a reason; reasons are
// the names to suggest where it has not.
func NewController(clk clock.Clock, kubeClient client.Client, known func(string) bool, reasons []string) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, known: known, reasons: reasons}
}

// Name of the controller.
func (*Controller) Name() string { return "repairpolicy.status" }

// Reconcile looks at all policies at once: what one governs depends on the others.
func (c *Controller) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	policies := &v1alpha1.RepairPolicyList{}
	if err := c.kubeClient.List(ctx, policies); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing repairpolicies, %w", err)
	}
	claims := &karpv1.NodeClaimList{}
	if err := c.kubeClient.List(ctx, claims, client.UnsafeDisableDeepCopy); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing nodeclaims, %w", err)
	}
	compiled := diagnosis.Compile(policies.Items)
	tallies := tally(compiled, policies.Items, claims.Items)
	for i := range policies.Items {
		policy := &policies.Items[i]
		stored := policy.DeepCopy()
		c.describe(policy, compiled.Problems(policy.Name), tallies[policy.Name])
		if equality.Semantic.DeepEqual(stored.Status, policy.Status) {
			continue
		}
		if err := c.kubeClient.Status().Patch(ctx, policy, client.MergeFrom(stored)); client.IgnoreNotFound(err) != nil {
			return reconcile.Result{}, fmt.Errorf("writing the status of repairpolicy %s, %w", policy.Name, err)
		}
	}
	return reconcile.Result{RequeueAfter: nextEnd(policies.Items, c.clock.Now())}, nil
}

func (c *Controller) describe(policy *v1alpha1.RepairPolicy, problems []string, t counted) {
	policy.Status.NodeClaims, policy.Status.Unhealthy = t.governed, t.unhealthy
	for _, condition := range []metav1.Condition{ready(policy, problems, t), c.reasonsKnown(policy), selects(t)} {
		condition.ObservedGeneration = policy.Generation
		condition.LastTransitionTime = metav1.NewTime(c.clock.Now())
		meta.SetStatusCondition(&policy.Status.Conditions, condition)
	}
	if policy.Spec.Mode != v1alpha1.ModePaused {
		meta.RemoveStatusCondition(&policy.Status.Conditions, v1alpha1.PolicyConditionPaused)
		return
	}
	condition := paused(policy, c.clock.Now())
	condition.ObservedGeneration = policy.Generation
	condition.LastTransitionTime = metav1.NewTime(c.clock.Now())
	meta.SetStatusCondition(&policy.Status.Conditions, condition)
}

// Register adds the controller to the manager.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	soon := func(queue workqueue.TypedRateLimitingInterface[reconcile.Request], after time.Duration) {
		queue.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: "all"}}, after)
	}
	at := func(after time.Duration) handler.Funcs {
		return handler.Funcs{
			CreateFunc: func(_ context.Context, _ event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				soon(q, after)
			},
			UpdateFunc: func(_ context.Context, _ event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				soon(q, after)
			},
			DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				soon(q, after)
			},
		}
	}
	return controllerruntime.NewControllerManagedBy(m). //nolint:wrapcheck // the caller names the controller
								Named(c.Name()).
								Watches(&v1alpha1.RepairPolicy{}, at(0), builderPredicates(predicate.GenerationChangedPredicate{})).
								Watches(&karpv1.NodeClaim{}, at(settle)).
								Complete(c)
}
