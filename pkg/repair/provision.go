package repair

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/replacement"
)

const (
	// firstBackoff and lastBackoff bound the pause before another replacement is tried; it doubles in between.
	firstBackoff = 5 * time.Second
	lastBackoff  = 5 * time.Minute
	// appearsWithin is how long a NodeClaim that we made may be missing in the cache before we ask past it.
	appearsWithin = 2 * time.Second
)

// provision makes the replacement, and waits until it has launched. An unlaunched NodeClaim stalls Karpenter for the
// whole cluster, so few are allowed at once, and one that does not launch in time is withdrawn.
func (e *Executor) provision(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	if stop, err := e.stopped(ctx, repair); err != nil || stop {
		return through, err
	}
	if reason := needsNone(repair); reason != "" {
		e.setCondition(repair, v1alpha1.RepairConditionProvisioned, metav1.ConditionTrue, reason, "no replacement is made before the node goes")
		return to(repair, v1alpha1.PhaseWaiting, "the node is looked at once more before it is deleted"), nil
	}
	r := current(repair)
	if r == nil {
		return e.launch(ctx, repair)
	}
	claim, p, err := e.replacement(ctx, repair, r)
	if err != nil || claim == nil {
		return p, err
	}
	now := e.Clock.Now()
	if !claim.StatusConditions().Get(karpv1.ConditionTypeLaunched).IsTrue() {
		limit := repair.Spec.Replacement.LaunchWithin()
		deadline := madeAt(r, claim).Add(limit)
		if now.Before(deadline) {
			repair.Status.Message = fmt.Sprintf("waiting for NodeClaim %s to launch, until %s", claim.Name, stamp(deadline))
			return wait(min(deadline.Sub(now), lookAgain)), nil
		}
		return e.withdraw(ctx, repair, r, fmt.Sprintf("it did not launch within %s", limit))
	}
	r.LaunchedAt = lo.ToPtr(metav1.NewTime(now))
	return to(repair, v1alpha1.PhaseWaiting, toInitialize(claim, initializeDeadline(repair, r, claim))), nil
}

// madeAt says when a replacement was made, by our own clock: by the API server's, one that is off from ours by more than
// the time limit would make every replacement look late.
func madeAt(r *v1alpha1.ReplacementStatus, claim *karpv1.NodeClaim) time.Time {
	if r.CreatedAt != nil {
		return r.CreatedAt.Time
	}
	return claim.CreationTimestamp.Time
}

func needsNone(repair *v1alpha1.NodeRepair) string {
	switch {
	case repair.Spec.TerminateFirst:
		return terminateFirst
	case repair.Spec.Replacements == 0:
		return "NotNeeded"
	default:
		return ""
	}
}

// launch makes the next replacement, where one may be made now.
func (e *Executor) launch(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	now := e.Clock.Now()
	tried, allowed := int32(len(repair.Status.Replacements)), lo.FromPtrOr(repair.Spec.Replacement.Attempts, 3)
	if tried >= allowed {
		letGoAs(repair, v1alpha1.PhaseFailed, fmt.Sprintf("no replacement stood after %d attempts; the last: %s", tried, repair.Status.Replacements[tried-1].Message))
		return through, nil
	}
	if next := repair.Status.NextAttemptAt; next != nil && now.Before(next.Time) {
		return wait(next.Sub(now)), nil
	}
	input, problem, err := e.replacementInput(ctx, repair, tried+1)
	if err != nil {
		return progress{}, err
	}
	if problem != "" {
		repair.Status.Message = truncate("no replacement can be made now: " + problem)
		return wait(lookAgain), nil
	}
	claim, err := replacement.InKind(input)
	if err != nil {
		letGoAs(repair, v1alpha1.PhaseFailed, err.Error())
		return through, nil // told on the NodeRepair: trying again would not help
	}
	made, err := e.launching.create(ctx, e.Client, e.Clock, claim, lo.FromPtrOr(repair.Spec.Replacement.MaxLaunching, 5))
	if err != nil {
		return progress{}, fmt.Errorf("making the replacement, %w", err)
	}
	if !made {
		repair.Status.Message = "waiting until fewer replacements are unlaunched: they stall Karpenter"
		return wait(time.Second), nil
	}
	repair.Status.NextAttemptAt = nil
	repair.Status.Replacements = append(repair.Status.Replacements, v1alpha1.ReplacementStatus{
		NodeClaim: claim.Name, Attempt: tried + 1, CreatedAt: lo.ToPtr(metav1.NewTime(now)),
	})
	e.setCondition(repair, v1alpha1.RepairConditionProvisioned, metav1.ConditionFalse, "Launching", fmt.Sprintf("NodeClaim %s has been made", claim.Name))
	repair.Status.Message = fmt.Sprintf("NodeClaim %s has been made as replacement", claim.Name)
	return through, nil
}

// replacementInput gathers what a replacement is made from. problem says, in words, why none can be made now.
func (e *Executor) replacementInput(ctx context.Context, repair *v1alpha1.NodeRepair, attempt int32) (in replacement.Input, problem string, err error) {
	in = replacement.Input{
		Name:       replacementName(repair, attempt),
		NodeRepair: repair.Name,
	}
	if in.Width, err = e.width(ctx, repair, attempt); err != nil {
		return in, "", err
	}
	if in.NodeClaim, err = nodeClaim(ctx, e.Client, repair); err != nil || in.NodeClaim == nil {
		return in, "the NodeClaim is gone", err
	}
	in.NodePool = &karpv1.NodePool{}
	if err := e.Client.Get(ctx, client.ObjectKey{Name: repair.Spec.NodePool}, in.NodePool); err != nil {
		if apierrors.IsNotFound(err) {
			return in, fmt.Sprintf("NodePool %q is gone", repair.Spec.NodePool), nil
		}
		return in, "", fmt.Errorf("getting the nodepool, %w", err)
	}
	if in.AvoidZones, err = e.Snapshot.PausedZones(ctx, e.Client); err != nil {
		return in, "", err
	}
	conditions := in.NodePool.StatusConditions()
	if !conditions.Root().IsTrue() || conditions.Get(karpv1.ConditionTypeNodeRegistrationHealthy).IsFalse() {
		return in, fmt.Sprintf("NodePool %q is not ready: %s", in.NodePool.Name, conditions.Root().Message), nil
	}
	in.NodeLabels = in.NodeClaim.Labels
	n, err := node(ctx, e.Client, repair.Spec.NodeName)
	if err != nil || n == nil {
		return in, "", err
	}
	in.NodeLabels = n.Labels
	pods, err := nodeutils.GetPods(ctx, e.Client, n.Name)
	if err != nil {
		return in, "", fmt.Errorf("listing the pods of the node, %w", err)
	}
	moving := lo.Filter(pods, func(p *corev1.Pod, _ int) bool { return podutils.IsReschedulable(p) })
	in.Keep = keeps(moving, in.Width)
	in.Requests = resources.RequestsForPods(lo.Filter(pods, func(p *corev1.Pod, _ int) bool {
		return podutils.IsReschedulable(p) || podutils.IsOwnedByDaemonSet(p)
	})...)
	return in, "", nil
}

// replacementName derives from the NodeRepair and the attempt, so that a try after a crash finds what it made.
func replacementName(repair *v1alpha1.NodeRepair, attempt int32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", repair.UID, attempt))
	return fmt.Sprintf("%s-%x", repair.Spec.NodePool, sum[:4])
}

// current gives the replacement that has not been withdrawn; nil where there is none.
func current(repair *v1alpha1.NodeRepair) *v1alpha1.ReplacementStatus {
	if n := len(repair.Status.Replacements); n > 0 && repair.Status.Replacements[n-1].WithdrawnAt == nil {
		return &repair.Status.Replacements[n-1]
	}
	return nil
}

// replacement gives the NodeClaim of the replacement. Where it is gone, because Karpenter found no capacity for it or
// somebody deleted it, the attempt has failed, and the NodeClaim is nil.
func (e *Executor) replacement(ctx context.Context, repair *v1alpha1.NodeRepair, r *v1alpha1.ReplacementStatus) (*karpv1.NodeClaim, progress, error) {
	claim := &karpv1.NodeClaim{}
	err := e.Client.Get(ctx, client.ObjectKey{Name: r.NodeClaim}, claim)
	if apierrors.IsNotFound(err) {
		if r.CreatedAt != nil && e.Clock.Since(r.CreatedAt.Time) < appearsWithin {
			return nil, wait(200 * time.Millisecond), nil
		}
		err = e.Reader.Get(ctx, client.ObjectKey{Name: r.NodeClaim}, claim)
	}
	if apierrors.IsNotFound(err) || (err == nil && !claim.DeletionTimestamp.IsZero()) {
		return nil, e.attemptFailed(repair, r, "it was removed before it stood: Karpenter removes a NodeClaim for which the provider has no capacity or whose node class is not ready"), nil
	}
	if err != nil {
		return nil, progress{}, fmt.Errorf("getting the replacement, %w", err)
	}
	return claim, through, nil
}

// withdraw deletes a replacement that is not used, and ends its attempt.
func (e *Executor) withdraw(ctx context.Context, repair *v1alpha1.NodeRepair, r *v1alpha1.ReplacementStatus, why string) (progress, error) {
	if err := e.deleteReplacement(ctx, r.NodeClaim); err != nil {
		return progress{}, err
	}
	return e.attemptFailed(repair, r, why), nil
}

func (e *Executor) deleteReplacement(ctx context.Context, name string) error {
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := e.Client.Delete(ctx, claim); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("withdrawing the replacement, %w", err)
	}
	return nil
}

func (e *Executor) attemptFailed(repair *v1alpha1.NodeRepair, r *v1alpha1.ReplacementStatus, why string) progress {
	now := e.Clock.Now()
	r.WithdrawnAt, r.Message = lo.ToPtr(metav1.NewTime(now)), truncate(why)
	pause := min(firstBackoff<<min(r.Attempt-1, 10), lastBackoff)
	repair.Status.NextAttemptAt = lo.ToPtr(metav1.NewTime(now.Add(pause)))
	e.setCondition(repair, v1alpha1.RepairConditionProvisioned, metav1.ConditionFalse, "AttemptFailed", truncate(fmt.Sprintf("replacement %s: %s", r.NodeClaim, why)))
	return to(repair, v1alpha1.PhaseProvisioning, truncate(fmt.Sprintf("replacement %s failed: %s; the next attempt is at %s", r.NodeClaim, why, stamp(now.Add(pause)))))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
