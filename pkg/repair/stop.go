package repair

import (
	"context"
	"fmt"
	"strings"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// stopped moves the repair elsewhere, and says true, where the node is no longer ours to take, or where the repair is
// no longer wanted: the node recovered, or a person said no. It looks into the cache; the last look before the delete
// is recheck's.
func (e *Executor) stopped(ctx context.Context, repair *v1alpha1.NodeRepair) (bool, error) {
	claim, err := nodeClaim(ctx, e.Client, repair)
	if err != nil {
		return false, err
	}
	n, err := node(ctx, e.Client, repair.Spec.NodeName)
	if err != nil {
		return false, err
	}
	if e.taken(repair, claim, n) {
		return true, nil
	}
	against, err := e.objections(ctx, repair)
	if err != nil || against == "" {
		return false, err
	}
	letGoAs(repair, v1alpha1.PhaseCanceled, against)
	return true, nil
}

// objections says, by the cache, why the repair is no longer wanted: the node recovered, or a person said no. Empty
// where it still is.
func (e *Executor) objections(ctx context.Context, repair *v1alpha1.NodeRepair) (string, error) {
	in := decision.Input{NodePools: map[string]decision.NodePool{}}
	if err := e.Snapshot.Refresh(ctx, e.Client, &in, repair.Spec.NodeClaim.Name); err != nil {
		return "", fmt.Errorf("looking at the node, %w", err)
	}
	return sentences(lo.Reject(decision.Recheck(in, repair.Spec.NodeClaim.UID), isBudget)), nil
}

// taken moves the repair elsewhere, and says true, where somebody else is removing the node already: Karpenter's
// other methods, its expiration or interruption handling, or a person.
func (e *Executor) taken(repair *v1alpha1.NodeRepair, claim *karpv1.NodeClaim, n *corev1.Node) bool {
	switch {
	case claim == nil || !claim.DeletionTimestamp.IsZero():
		// The node goes anyway. A replacement that is on its way takes its pods, so the repair goes on with it.
		if current(repair) == nil && !isTrue(repair, v1alpha1.RepairConditionProvisioned) {
			letGoAs(repair, v1alpha1.PhaseYielded, fmt.Sprintf("the NodeClaim was deleted before %s: Karpenter replaces it as its pods need",
				lo.Ternary(reboots(repair), "the reboot", "a replacement was made")))
			return true
		}
		e.setCondition(repair, v1alpha1.RepairConditionTerminated, metav1.ConditionFalse, "Draining", "the NodeClaim was deleted by somebody else; the replacement takes its pods")
		to(repair, v1alpha1.PhaseTerminating, "the NodeClaim is deleted; Karpenter drains the node")
		return true
	case disruptedByKarpenter(claim, n):
		letGoAs(repair, v1alpha1.PhaseYielded, "Karpenter has started to disrupt the node itself")
		return true
	}
	return false
}

func disruptedByKarpenter(claim *karpv1.NodeClaim, n *corev1.Node) bool {
	if claim.StatusConditions().Get(karpv1.ConditionTypeDisruptionReason).IsTrue() || Rebooting(claim).IsTrue() {
		return true
	}
	return n != nil && lo.ContainsBy(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&karpv1.DisruptedNoScheduleTaint) })
}

// tooLate says that a stop has come after the delete, which nothing takes back; empty where nobody has said anything.
func (e *Executor) tooLate(ctx context.Context, repair *v1alpha1.NodeRepair) (string, error) {
	stops, err := e.Snapshot.Stops(ctx, e.Client, repair.Spec.NodeClaim.Name, repair.Spec.NodeName, repair.Spec.Policy.Name)
	if err != nil {
		return "", fmt.Errorf("asking whether the repair was stopped, %w", err)
	}
	if len(stops) == 0 {
		return "", nil
	}
	return "cannot be stopped any more: the NodeClaim is deleted and its node is terminating (" + sentences(stops) + "); ", nil
}

// letGoAs turns the repair towards its end without the node's.
func letGoAs(repair *v1alpha1.NodeRepair, outcome v1alpha1.Phase, why string) {
	repair.Status.Outcome = outcome
	repair.Status.NextAttemptAt = nil
	to(repair, v1alpha1.PhaseLettingGo, truncate(why))
}

func isBudget(b decision.Blocker, _ int) bool { return b.Reason == decision.BlockerBudget }

func sentences(blockers []decision.Blocker) string {
	return truncate(strings.Join(lo.Map(blockers, func(b decision.Blocker, _ int) string { return string(b.Reason) + ": " + b.Message }), "; "))
}

// truncate keeps a message within what the API takes.
func truncate(message string) string {
	const maxMessageRunes = 1000
	return lo.Substring(message, 0, maxMessageRunes)
}
