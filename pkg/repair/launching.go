package repair

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// launching bounds how many replacements are unlaunched at once: each stalls Karpenter for the whole cluster.
type launching struct {
	mu sync.Mutex // guards what follows, and is never held while something is written: a write that hangs is one repair's own
	// made are replacements that the cache may not show yet, and when they were made; zero while they are being made.
	made map[string]time.Time
}

// create makes the NodeClaim, or finds that an earlier try has; false where too many are unlaunched already.
func (l *launching) create(ctx context.Context, kubeClient client.Client, clk clock.PassiveClock, claim *karpv1.NodeClaim, limit int32) (bool, error) {
	name := claim.Name
	if free, err := l.take(ctx, kubeClient, clk, name, limit); err != nil || !free {
		return false, err
	}
	err := kubeClient.Create(ctx, claim)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		delete(l.made, name)
		return false, err //nolint:wrapcheck // the caller says it
	}
	l.made[name] = clk.Now()
	return true, nil
}

// take keeps a place for the NodeClaim, where there is one.
func (l *launching) take(ctx context.Context, kubeClient client.Client, clk clock.PassiveClock, name string, limit int32) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	unlaunched, err := l.count(ctx, kubeClient, clk)
	if err != nil || unlaunched >= int(limit) {
		return false, err
	}
	if l.made == nil {
		l.made = map[string]time.Time{}
	}
	l.made[name] = time.Time{}
	return true, nil
}

// count of the unlaunched: those that the cache shows, and those made a moment ago that it does not.
func (l *launching) count(ctx context.Context, kubeClient client.Client, clk clock.PassiveClock) (int, error) {
	ours := &karpv1.NodeClaimList{}
	if err := kubeClient.List(ctx, ours, client.HasLabels{v1alpha1.NodeRepairLabel}, client.UnsafeDisableDeepCopy); err != nil {
		return 0, fmt.Errorf("listing replacements, %w", err)
	}
	unlaunched, shown := 0, map[string]bool{}
	for i := range ours.Items {
		shown[ours.Items[i].Name] = true
		if ours.Items[i].DeletionTimestamp.IsZero() && !launched(&ours.Items[i]) {
			unlaunched++
		}
	}
	for name, at := range l.made {
		switch {
		case !at.IsZero() && (shown[name] || clk.Since(at) >= appearsWithin):
			delete(l.made, name)
		case !shown[name]:
			unlaunched++
		}
	}
	return unlaunched, nil
}

// launched reads the condition without StatusConditions(), which would add conditions to an object of the cache.
func launched(claim *karpv1.NodeClaim) bool {
	for i := range claim.Status.Conditions {
		if claim.Status.Conditions[i].Type == karpv1.ConditionTypeLaunched {
			return claim.Status.Conditions[i].IsTrue()
		}
	}
	return false
}
