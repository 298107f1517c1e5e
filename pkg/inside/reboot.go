package inside

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/repair"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// rebooter hands reboots over to the reboot controller of the same Karpenter, as Karpenter's own repair does. That
// remembers its reboots in memory; ours stand on the NodeClaim, so that a restart forgets none.
type rebooter struct {
	client client.Client
	reader client.Reader // past the cache
	clock  clock.Clock
}

// reboot asks for one: first it is counted, so that whatever happens then it is not tried without end.
func (r rebooter) reboot(ctx context.Context, d decision.Decision) (bool, error) {
	claim := &karpv1.NodeClaim{}
	if err := r.reader.Get(ctx, client.ObjectKey{Name: d.Node.NodeClaim}, claim); err != nil {
		return false, client.IgnoreNotFound(err) //nolint:wrapcheck // names the object
	}
	if claim.UID != d.Node.NodeClaimUID || !claim.DeletionTimestamp.IsZero() || repair.Rebooting(claim).IsTrue() {
		return false, nil
	}
	if err := r.count(ctx, claim); err != nil {
		return false, ignoreMeanwhile(err)
	}
	var bound *metav1.Duration
	if d.DrainBound != nil {
		bound = &metav1.Duration{Duration: *d.DrainBound}
	}
	if err := repair.AskForReboot(ctx, r.client, r.clock, claim, bound, "rebooting for "+why(d)); err != nil {
		return false, ignoreMeanwhile(err)
	}
	return true, r.dropRequest(ctx, d.Node.NodeName)
}

// count notes the reboot on the NodeClaim, and takes a person's request for it away.
func (r rebooter) count(ctx context.Context, claim *karpv1.NodeClaim) error {
	stored := claim.DeepCopy()
	if claim.Annotations == nil {
		claim.Annotations = map[string]string{}
	}
	claim.Annotations[v1alpha1.RebootsAnnotation] = snapshot.NoteReboot(claim.Annotations[v1alpha1.RebootsAnnotation], r.clock.Now())
	if claim.Annotations[v1alpha1.RepairRequestAnnotation] == string(v1alpha1.ActionReboot) {
		delete(claim.Annotations, v1alpha1.RepairRequestAnnotation)
	}
	if err := r.client.Patch(ctx, claim, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("counting the reboot, %w", err)
	}
	return nil
}

// dropRequest takes a person's request for the reboot off the Node.
func (r rebooter) dropRequest(ctx context.Context, name string) error {
	node := &corev1.Node{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
		return client.IgnoreNotFound(err) //nolint:wrapcheck // names the object
	}
	if node.Annotations[v1alpha1.RepairRequestAnnotation] != string(v1alpha1.ActionReboot) {
		return nil
	}
	stored := node.DeepCopy()
	delete(node.Annotations, v1alpha1.RepairRequestAnnotation)
	if err := r.client.Patch(ctx, node, client.MergeFrom(stored)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("taking the request for the reboot off the node, %w", err)
	}
	return nil
}

// why is the reason of the finding that the decision rests on.
func why(d decision.Decision) string {
	if d.Node.Verdict.Deciding == nil {
		return "a person's request"
	}
	return d.Node.Verdict.Deciding.Finding.Reason
}

// ignoreMeanwhile lets go what somebody else has changed or removed: the next pass looks again.
func ignoreMeanwhile(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
