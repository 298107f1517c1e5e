// Package history keeps finished NodeRepairs for a bounded time and in bounded number.
package history

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	// MinAge is the least time that history is kept, however much there is: decisions count failures of the last 24
	// hours, and reckon the width of a suspect domain from the last hour.
	MinAge = 24 * time.Hour
	// every is the time between two looks.
	every = 10 * time.Minute
	// settle lets a burst of endings pass before one look at them all.
	settle = 5 * time.Second
)

// Controller removes NodeRepairs that are too old or too many.
type Controller struct {
	clock      clock.Clock
	kubeClient client.Client
	keep       int
	age        time.Duration
}

// NewController keeps at most keep finished NodeRepairs, each for at most age; but all for at least MinAge, and reboots
// for as long as their attempts are counted.
func NewController(clk clock.Clock, kubeClient client.Client, keep int, age time.Duration) *Controller {
	return &Controller{clock: clk, kubeClient: kubeClient, keep: keep, age: max(age, MinAge)}
}

// Name of the controller.
func (*Controller) Name() string { return "noderepair.history" }

// Reconcile looks at all finished NodeRepairs at once.
func (c *Controller) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	list := &v1alpha1.NodeRepairList{}
	if err := c.kubeClient.List(ctx, list); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing noderepairs, %w", err)
	}
	finished := slices.DeleteFunc(list.Items, func(r v1alpha1.NodeRepair) bool { return !r.Finished() })
	slices.SortFunc(finished, func(a, b v1alpha1.NodeRepair) int { return endOf(b).Compare(endOf(a)) }) // newest first
	now := c.clock.Now()
	counted, err := c.countedReboots(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	for i := range finished {
		age := now.Sub(endOf(finished[i]))
		if age < MinAge || counted(&finished[i], now) || (i < c.keep && age < c.age) {
			continue
		}
		if err := c.kubeClient.Delete(ctx, &finished[i]); client.IgnoreNotFound(err) != nil {
			return reconcile.Result{}, fmt.Errorf("removing noderepair %s, %w", finished[i].Name, err)
		}
	}
	return reconcile.Result{RequeueAfter: every}, nil
}

// countedReboots says of which reboots decisions still count the attempts: those of NodeClaims that stand, within the
// longest window that any RepairPolicy has. A policy may count over weeks, however much else has happened since.
func (c *Controller) countedReboots(ctx context.Context) (func(*v1alpha1.NodeRepair, time.Time) bool, error) {
	policies := &v1alpha1.RepairPolicyList{}
	if err := c.kubeClient.List(ctx, policies); err != nil {
		return nil, fmt.Errorf("listing repairpolicies, %w", err)
	}
	var window time.Duration
	for i := range policies.Items {
		if w := policies.Items[i].Spec.Reboot.Window; w != nil {
			window = max(window, w.Duration)
		}
	}
	claims := &karpv1.NodeClaimList{}
	if err := c.kubeClient.List(ctx, claims, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodeclaims, %w", err)
	}
	stands := make(map[types.UID]bool, len(claims.Items))
	for i := range claims.Items {
		stands[claims.Items[i].UID] = true
	}
	return func(r *v1alpha1.NodeRepair, now time.Time) bool {
		return r.Spec.Action == v1alpha1.ActionReboot && stands[r.Spec.NodeClaim.UID] && now.Sub(r.CreationTimestamp.Time) < window
	}, nil
}

func endOf(r v1alpha1.NodeRepair) time.Time {
	if r.Status.FinishedAt != nil {
		return r.Status.FinishedAt.Time
	}
	return r.CreationTimestamp.Time
}

// Register adds the controller to the manager.
func (c *Controller) Register(_ context.Context, m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m). //nolint:wrapcheck // the caller names the controller
								Named(c.Name()).
								Watches(&v1alpha1.NodeRepair{}, &handler.Funcs{CreateFunc: created}).
								Complete(c)
}
