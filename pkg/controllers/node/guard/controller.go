// Package guard keeps Karpenter's own repair off nodes that we repair, so that there is one repairer and never two, and
// takes away vetoes whose end has come, of which Karpenter knows nothing.
package guard

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// lookAgain is how soon a node with a Fatal finding is looked at again: what is known of Karpenter is not watched.
const lookAgain = time.Minute

// Controller sets karpenter.sh/do-not-repair on sick nodes while Karpenter's own repair is on, and ends vetoes.
type Controller struct {
	clock      clock.Clock
	kubeClient client.Client
	karpenter  func() decision.Karpenter
}

// NewController makes the guard. karpenter tells what is known of the Karpenter beside us.
func NewController(clk clock.Clock, kubeClient client.Client, karpenter func() decision.Karpenter) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, karpenter: karpenter}
}

// Name of the controller.
func (*Controller) Name() string { return "node.guard" }

// Reconcile sets or lifts the guard of one Node, and ends a veto whose time has come.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	node := &corev1.Node{}
	if err := c.kubeClient.Get(ctx, req.NamespacedName, node); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	// The fence of a repair keeps what stood there before and brings it back. Until then nothing is changed beneath it.
	if !node.DeletionTimestamp.IsZero() || node.Annotations[v1alpha1.FenceOwnerAnnotation] != "" {
		return reconcile.Result{}, nil
	}
	wanted, again, err := c.wanted(ctx, node)
	if err != nil {
		return reconcile.Result{}, err
	}
	veto, vetoed := snapshot.NodeVeto(node)
	now := c.clock.Now()
	ended := vetoed && !veto.Active(now)
	if vetoed && !ended && !veto.Until.IsZero() && (again == 0 || veto.Until.Sub(now) < again) {
		again = veto.Until.Sub(now)
	}
	if err := c.apply(ctx, node, wanted, ended); err != nil {
		if apierrors.IsConflict(err) {
			return reconcile.Result{RequeueAfter: time.Second}, nil
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// wanted says whether the node needs a guard now: Karpenter repairs nodes itself and can be kept off this one, the node
// has a Fatal finding, and a policy of ours means to do something about it. A node that we do not mean to repair is
// left to Karpenter.
func (c *Controller) wanted(ctx context.Context, node *corev1.Node) (bool, time.Duration, error) {
	health := &v1alpha1.NodeHealth{}
	if err := c.kubeClient.Get(ctx, client.ObjectKeyFromObject(node), health); err != nil {
		return false, 0, client.IgnoreNotFound(err)
	}
	if !slices.ContainsFunc(health.Findings, func(f v1alpha1.Finding) bool { return f.Severity == v1alpha1.SeverityFatal }) {
		return false, 0, nil
	}
	karpenter := c.karpenter()
	if !karpenter.OwnRepair || !karpenter.HonoursDoNotRepair {
		return false, lookAgain, nil
	}
	nodeClaim, err := nodeutils.NodeClaimForNode(ctx, c.kubeClient, node)
	if err != nil {
		if nodeutils.IsNodeClaimNotFoundError(err) || nodeutils.IsDuplicateNodeClaimError(err) {
			return false, lookAgain, nil
		}
		return false, 0, fmt.Errorf("getting nodeclaim, %w", err)
	}
	policies := &v1alpha1.RepairPolicyList{}
	if err := c.kubeClient.List(ctx, policies); err != nil {
		return false, 0, fmt.Errorf("listing repairpolicies, %w", err)
	}
	verdict := diagnosis.Compile(policies.Items).Diagnose(c.clock.Now(), diagnosis.Subject{
		Name: nodeClaim.Name, Labels: nodeClaim.Labels, Health: health,
	}).Verdict
	ours := verdict.Policy != nil && verdict.Deciding != nil && verdict.Policy.Spec.Mode != v1alpha1.ModeDryRun
	return ours, lookAgain, nil
}

// apply sets or lifts the guard. An annotation that was there before is a person's, and stays as it is, unless it is a
// veto whose end, which the person has set, has come: Karpenter would honour it for ever. Both are one write, so that
// Karpenter never finds a node of ours without either.
func (c *Controller) apply(ctx context.Context, node *corev1.Node, wanted, vetoEnded bool) error {
	_, guarded := node.Annotations[v1alpha1.GuardedAnnotation]
	stored := node.DeepCopy()
	node = node.DeepCopy()
	if vetoEnded {
		delete(node.Annotations, v1alpha1.VetoAnnotation)
		if !guarded {
			delete(node.Annotations, karpv1.DoNotRepairAnnotationKey)
		}
	}
	switch {
	case wanted && !guarded && node.Annotations[karpv1.DoNotRepairAnnotationKey] == "":
		if node.Annotations == nil {
			node.Annotations = map[string]string{}
		}
		node.Annotations[karpv1.DoNotRepairAnnotationKey] = "true"
		node.Annotations[v1alpha1.GuardedAnnotation] = "true"
	case !wanted && guarded:
		delete(node.Annotations, karpv1.DoNotRepairAnnotationKey)
		delete(node.Annotations, v1alpha1.GuardedAnnotation)
	case !vetoEnded:
		return nil
	}
	if err := c.kubeClient.Patch(ctx, node, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("guarding node, %w", err)
	}
	log.FromContext(ctx).Info("changed the guard against karpenter's own repair", "Node", node.Name, "guarded", wanted, "vetoEnded", vetoEnded)
	return nil
}

// Register watches what decides about a guard.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m).
		Named(c.Name()).
		For(&corev1.Node{}, builder.WithPredicates(annotationsChanged())).
		Watches(&v1alpha1.NodeHealth{}, &handler.EnqueueRequestForObject{}).
		Watches(&v1alpha1.RepairPolicy{}, handler.EnqueueRequestsFromMapFunc(c.allSick), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 10}).
		Complete(c)
}

// allSick gives a request for every node with findings.
func (c *Controller) allSick(ctx context.Context, _ client.Object) []reconcile.Request {
	list := &v1alpha1.NodeHealthList{}
	if err := c.kubeClient.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "listing nodehealths")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if len(list.Items[i].Findings) > 0 {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

// annotationsChanged leaves out the kubelets' heartbeats.
func annotationsChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !equality.Semantic.DeepEqual(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations())
	}}
}
