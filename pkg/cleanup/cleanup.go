// Package cleanup takes back, before the controller is uninstalled, what it has written on objects of others: fences
// and guards on Nodes, conditions and protection on NodeClaims. What is left to do of repairs it has the controller do,
// which knows how; then it takes the leader's lease away for as long as the uninstalling takes, so that nobody writes
// anew what is cleaned.
package cleanup

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/repair"
)

const (
	// pauseName of the RepairPause under which the controller lets go of its repairs.
	pauseName = "autorepair-uninstall"
	// pauseFor is how long it holds should the uninstalling fail: it must not stand in the way of the next installation.
	pauseFor = 15 * time.Minute
	// look is the time between two looks at repairs that are let go.
	look = 500 * time.Millisecond
)

// Cleaner cleans up once.
type Cleaner struct {
	// Client reads and writes without a cache.
	Client client.Client
	Clock  clock.Clock
	// Lease that the leader holds.
	Lease client.ObjectKey
	// Grace is how long the leader is given to let go of repairs that can be let go.
	Grace time.Duration
}

// Run takes everything back. It can be repeated.
func (c *Cleaner) Run(ctx context.Context) error {
	pause, err := c.pause(ctx)
	if err != nil {
		return fmt.Errorf("pausing repairs, %w", err)
	}
	for _, step := range []func(context.Context) error{c.letGo, c.takeLease, c.endRepairs, c.nodeClaims, c.nodes} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := c.Client.Delete(ctx, pause); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("lifting the pause, %w", err)
	}
	return nil
}

// pause stops all repairs. One that an earlier run has left may have ended, so it is made anew.
func (c *Cleaner) pause(ctx context.Context) (*v1alpha1.RepairPause, error) {
	pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: pauseName}}
	pause.Spec.Until = c.Clock.Now().Add(pauseFor).UTC().Format(time.RFC3339)
	pause.Spec.Reason = "the controller is being uninstalled"
	err := c.Client.Create(ctx, pause.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		if err := c.Client.Delete(ctx, pause.DeepCopy()); client.IgnoreNotFound(err) != nil {
			return nil, err //nolint:wrapcheck // names the object
		}
		err = c.Client.Create(ctx, pause.DeepCopy())
	}
	return pause, err //nolint:wrapcheck // names the object
}

// letGo waits until the leader, if there is one, has let go of what can be let go.
func (c *Cleaner) letGo(ctx context.Context) error {
	for end := c.Clock.Now().Add(c.Grace); ; {
		lease, err := c.lease(ctx)
		if err != nil {
			return err
		}
		repairs := &v1alpha1.NodeRepairList{}
		if err := c.Client.List(ctx, repairs); err != nil {
			return fmt.Errorf("listing noderepairs, %w", err)
		}
		waiting := slices.ContainsFunc(repairs.Items, func(r v1alpha1.NodeRepair) bool { return r.CanBeLetGo() })
		if !waiting || !held(lease, c.Clock.Now()) || !c.Clock.Now().Before(end) {
			return nil
		}
		select {
		case <-c.Clock.After(look):
		case <-ctx.Done():
			return fmt.Errorf("waiting until repairs are let go, %w", ctx.Err())
		}
	}
}

// endRepairs ends those that are left, so that a later installation does not take them up again.
func (c *Cleaner) endRepairs(ctx context.Context) error {
	repairs := &v1alpha1.NodeRepairList{}
	if err := c.Client.List(ctx, repairs); err != nil {
		return fmt.Errorf("listing noderepairs, %w", err)
	}
	for i := range repairs.Items {
		r := &repairs.Items[i]
		if err := c.change(ctx, r, c.patchStatus, func() bool { return end(r, c.Clock.Now()) }); err != nil {
			return fmt.Errorf("ending noderepair %s, %w", r.Name, err)
		}
	}
	return nil
}

// change writes what alter changes in the object, and reads and alters it anew where somebody else was faster. alter
// says whether there is anything to write. An object that is gone needs nothing.
func (c *Cleaner) change(ctx context.Context, object client.Object, patch func(context.Context, client.Object, client.Patch) error, alter func() bool) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		stored := object.DeepCopyObject().(client.Object)
		if !alter() {
			return nil
		}
		err := patch(ctx, object, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
		if err != nil {
			if again := c.Client.Get(ctx, client.ObjectKeyFromObject(object), object); again != nil {
				return again //nolint:wrapcheck // the caller names the object
			}
		}
		return err //nolint:wrapcheck // the caller names the object
	})
	return client.IgnoreNotFound(err) //nolint:wrapcheck // as above
}

func (c *Cleaner) patch(ctx context.Context, object client.Object, patch client.Patch) error {
	return c.Client.Patch(ctx, object, patch) //nolint:wrapcheck // the caller names the object
}

func (c *Cleaner) patchStatus(ctx context.Context, object client.Object, patch client.Patch) error {
	return c.Client.Status().Patch(ctx, object, patch) //nolint:wrapcheck // the caller names the object
}

func (c *Cleaner) executor() *repair.Executor {
	return &repair.Executor{Client: c.Client, Reader: c.Client, Clock: c.Clock}
}

func (*Cleaner) say(ctx context.Context, message string, keysAndValues ...any) {
	log.FromContext(ctx).Info(message, keysAndValues...)
}
