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
	// MinAge is the least time that history is kept: decisions count attempts of the last 24 hours.
	MinAge = 24 * time.Hour
	// MaxRebootWindow is the longest spec.reboot.window of a RepairPolicy. Reboots are counted in it, so what is kept of
	// them is kept as long, while their NodeClaim is there: no more than a few for each, by spec.reboot.attempts.
	MaxRebootWindow = 720 * time.Hour
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

// NewController keeps at most keep finished NodeRepairs, each for at most age; but all for at least MinAge.
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
	standing, err := c.standing(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	now := c.clock.Now()
	for i := range finished {
		age := now.Sub(endOf(finished[i]))
		if age < MinAge || (i < c.keep && age < c.age) {
			continue
		}
		if counted := finished[i].Spec.Action == v1alpha1.ActionReboot && standing[finished[i].Spec.NodeClaim.UID]; counted && age < MaxRebootWindow {
			continue
		}
		if err := c.kubeClient.Delete(ctx, &finished[i]); client.IgnoreNotFound(err) != nil {
			return reconcile.Result{}, fmt.Errorf("removing noderepair %s, %w", finished[i].Name, err)
		}
	}
	return reconcile.Result{RequeueAfter: every}, nil
}

// standing NodeClaims, by UID.
func (c *Controller) standing(ctx context.Context) (map[types.UID]bool, error) {
	list := &karpv1.NodeClaimList{}
	if err := c.kubeClient.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodeclaims, %w", err)
	}
	out := make(map[types.UID]bool, len(list.Items))
	for i := range list.Items {
		out[list.Items[i].UID] = true
	}
	return out, nil
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
