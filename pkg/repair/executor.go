// Package repair carries NodeRepairs out beside an unmodified Karpenter: one file for each phase. Each phase can be
// repeated, continues from what the API server shows alone, and takes it for success when Karpenter got there first.
package repair

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// lookAgain is how long a phase waits at most for a change that it watches for; a watch may be missed.
const lookAgain = 10 * time.Second

// Snapshot gathers what decisions rest on.
type Snapshot interface {
	// Gather gives everything, as the cache has it.
	Gather(ctx context.Context) (decision.Input, error)
	// Refresh reads one NodeClaim and what belongs to it anew, by the reader, into the Input.
	Refresh(ctx context.Context, reader client.Reader, in *decision.Input, nodeClaim string) error
	// Stops gives what people have said against the repair of a NodeClaim: pauses and vetoes that hold.
	Stops(ctx context.Context, reader client.Reader, nodeClaim, node, policy string) ([]decision.Blocker, error)
	// PausedZones gives the zones in which nothing is to be launched now.
	PausedZones(ctx context.Context, reader client.Reader) ([]string, error)
}

// Executor carries NodeRepairs out.
type Executor struct {
	// Client reads from the cache, Reader past it.
	Client   client.Client
	Reader   client.Reader
	Clock    clock.Clock
	Recorder events.EventRecorder
	Snapshot Snapshot
	// Karpenter tells what is known of the Karpenter beside us.
	Karpenter func() decision.Karpenter
	// Written, if there is one, hears of each write of a status that has landed.
	Written func(before, after *v1alpha1.NodeRepair)

	launching  launching
	refills    refills
	nodeEvents nodeEvents
}

// progress is what one phase has come to.
type progress struct {
	// again is when to look again; zero where the phase is through and the next one may go on at once.
	again time.Duration
}

var through = progress{}

func wait(again time.Duration) progress { return progress{again: max(again, time.Millisecond)} }

// Step takes the repair as far as it goes now, and says when to look again; zero where there is nothing left to do.
// What was reached is written once, at the end: every phase can be repeated, so what a crash keeps from being written
// is done again, and a storm costs the API server half as many writes. Only the delete of the node, or the request for
// its reboot, cannot be repeated: what led to it is written before.
func (e *Executor) Step(ctx context.Context, repair *v1alpha1.NodeRepair) (time.Duration, error) {
	before := repair.DeepCopy()
	p, err := e.advance(ctx, repair)
	if writeErr := e.write(ctx, before, repair); writeErr != nil {
		return 0, writeErr
	}
	return p.again, err
}

// advance goes from phase to phase until one has to wait.
func (e *Executor) advance(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	written := repair.Status.Phase
	for !repair.Finished() {
		if repair.Status.Phase == v1alpha1.PhaseWaiting && written != v1alpha1.PhaseWaiting {
			return wait(time.Millisecond), nil
		}
		if p, err := e.phase(ctx, repair); err != nil || p.again > 0 {
			return p, err
		}
	}
	return through, nil
}

func (e *Executor) phase(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	switch repair.Status.Phase {
	case "", v1alpha1.PhaseCommitted:
		return e.commit(ctx, repair)
	case v1alpha1.PhaseFencing:
		return e.fence(ctx, repair)
	case v1alpha1.PhaseProvisioning:
		return e.provision(ctx, repair)
	case v1alpha1.PhaseWaiting:
		return e.wait(ctx, repair)
	case v1alpha1.PhaseTerminating:
		return e.terminate(ctx, repair)
	case v1alpha1.PhaseRebooting:
		return e.reboot(ctx, repair)
	case v1alpha1.PhaseReleasing:
		return e.release(ctx, repair)
	case v1alpha1.PhaseVerifying:
		return e.verify(ctx, repair)
	case v1alpha1.PhaseLettingGo:
		return e.letGo(ctx, repair)
	default:
		return progress{}, fmt.Errorf("continuing NodeRepair %s: its phase %q is none that this version knows", repair.Name, repair.Status.Phase)
	}
}

// write puts the status where it changed, against the version that was read, and then tells of it.
func (e *Executor) write(ctx context.Context, before, after *v1alpha1.NodeRepair) error {
	if !changed(before, after) {
		return nil
	}
	// A merge patch against the version that was read: whoever read an older one meets a conflict.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := e.Client.Status().Patch(ctx, after, patch); err != nil {
		return fmt.Errorf("writing the status of the noderepair, %w", err)
	}
	if e.Written != nil {
		e.Written(before, after)
	}
	e.tell(ctx, before, after)
	return nil
}

// nodeClaim that is repaired, as the reader has it; nil where it is gone, or another one has taken its name.
func nodeClaim(ctx context.Context, reader client.Reader, repair *v1alpha1.NodeRepair) (*karpv1.NodeClaim, error) {
	claim := &karpv1.NodeClaim{}
	err := reader.Get(ctx, client.ObjectKey{Name: repair.Spec.NodeClaim.Name}, claim)
	if apierrors.IsNotFound(err) || (err == nil && claim.UID != repair.Spec.NodeClaim.UID) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("getting the nodeclaim, %w", err)
	}
	return claim, nil
}

// node that is repaired; nil where it is gone.
func node(ctx context.Context, reader client.Reader, name string) (*corev1.Node, error) {
	if name == "" {
		return nil, nil
	}
	n := &corev1.Node{}
	if err := reader.Get(ctx, client.ObjectKey{Name: name}, n); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("getting the node, %w", err)
	}
	return n, nil
}

// setCondition sets a condition of the repair. Its transition moves with its status only.
func (e *Executor) setCondition(repair *v1alpha1.NodeRepair, conditionType string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&repair.Status.Conditions, metav1.Condition{
		Type: conditionType, Status: status, Reason: reason, Message: message,
		ObservedGeneration: repair.Generation, LastTransitionTime: metav1.NewTime(e.Clock.Now()),
	})
}

func isTrue(repair *v1alpha1.NodeRepair, conditionType string) bool {
	return meta.IsStatusConditionTrue(repair.Status.Conditions, conditionType)
}

// since gives when a condition last changed; now where it is not there.
func (e *Executor) since(repair *v1alpha1.NodeRepair, conditionType string) time.Time {
	if condition := meta.FindStatusCondition(repair.Status.Conditions, conditionType); condition != nil {
		return condition.LastTransitionTime.Time
	}
	return e.Clock.Now()
}

// to moves the repair to its next phase.
func to(repair *v1alpha1.NodeRepair, phase v1alpha1.Phase, message string) progress {
	repair.Status.Phase, repair.Status.Message = phase, message
	return through
}

// finish ends the repair for ever.
func (e *Executor) finish(repair *v1alpha1.NodeRepair, phase v1alpha1.Phase, message string) progress {
	status := metav1.ConditionFalse
	if phase == v1alpha1.PhaseSucceeded {
		status = metav1.ConditionTrue
	}
	now := metav1.NewTime(e.Clock.Now())
	repair.Status.FinishedAt = &now
	repair.Status.NextAttemptAt = nil
	e.setCondition(repair, v1alpha1.RepairConditionSucceeded, status, string(phase), message)
	return to(repair, phase, message)
}
