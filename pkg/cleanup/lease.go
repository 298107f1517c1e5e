package cleanup

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

const (
	// holder that the lease names while the release is uninstalled.
	holder = "autorepair-cleanup"
	// heldFor is longer than an uninstalling takes. Should it fail, the controllers go on afterwards by themselves.
	heldFor = 10 * time.Minute
	// leaderEndsWithin is how long a leader writes on at most after it has lost its lease: the time after which
	// controller-runtime lets another one begin.
	leaderEndsWithin = 15 * time.Second
)

// takeLease takes the lease, whoever holds it, and waits until the leader must have ended.
func (c *Cleaner) takeLease(ctx context.Context) error {
	led := false
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		lease, err := c.lease(ctx)
		if err != nil || lease == nil {
			return err
		}
		led = held(lease, c.Clock.Now()) && *lease.Spec.HolderIdentity != holder
		take(lease, c.Clock.Now())
		return c.Client.Update(ctx, lease) //nolint:wrapcheck // said below
	})
	if err != nil {
		return fmt.Errorf("taking the lease %s, %w", c.Lease, err)
	}
	if !led {
		return nil
	}
	c.say(ctx, "took the lease; waiting until the leader has ended", "lease", c.Lease)
	select {
	case <-c.Clock.After(leaderEndsWithin):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting until the leader has ended, %w", ctx.Err())
	}
}

// lease of the leader; nil where there is none, and so no leader.
func (c *Cleaner) lease(ctx context.Context) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	if err := c.Client.Get(ctx, c.Lease, lease); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading the lease %s, %w", c.Lease, err)
	}
	return lease, nil
}

// held says whether somebody holds the lease now.
func held(lease *coordinationv1.Lease, now time.Time) bool {
	if lease == nil || ptr.Deref(lease.Spec.HolderIdentity, "") == "" || lease.Spec.RenewTime == nil {
		return false
	}
	return now.Before(lease.Spec.RenewTime.Add(time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 0)) * time.Second))
}

// take makes the lease ours.
func take(lease *coordinationv1.Lease, now time.Time) {
	at := metav1.NewMicroTime(now)
	lease.Spec.LeaseTransitions = ptr.To(ptr.Deref(lease.Spec.LeaseTransitions, 0) + 1)
	lease.Spec.HolderIdentity = ptr.To(holder)
	lease.Spec.LeaseDurationSeconds = ptr.To(int32(heldFor / time.Second))
	lease.Spec.AcquireTime, lease.Spec.RenewTime = &at, &at
}
