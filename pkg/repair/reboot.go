package repair

import (
	"context"
	"fmt"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Reasons of the condition Rebooted.
const (
	rebootRequested = "Requested"
	rebootProved    = "BootIDChanged"
)

// observedWithin is how long Karpenter waits for the new boot once the provider has taken the reboot
// (observationWindow of v1.15.0's nodeclaim/reboot). Then it deletes the NodeClaim.
const observedWithin = 20 * time.Minute

// takenUpWithin is how soon Karpenter's taint is expected on the node.
const takenUpWithin = time.Minute

func reboots(repair *v1alpha1.NodeRepair) bool { return repair.Spec.Action == v1alpha1.ActionReboot }

// bootIDBefore is the boot ID that the Node had when the repair began. It may be empty: kwok says none before the first
// reboot; a kubelet always says one.
func bootIDBefore(repair *v1alpha1.NodeRepair) string {
	if repair.Status.Evidence == nil || repair.Status.Evidence.NodeInfo == nil {
		return ""
	}
	return repair.Status.Evidence.NodeInfo.BootID
}

// rebooted says whether the Node has booted anew since the repair began, whoever made it.
func rebooted(repair *v1alpha1.NodeRepair, n *corev1.Node) bool {
	return n != nil && n.Status.NodeInfo.BootID != "" && n.Status.NodeInfo.BootID != bootIDBefore(repair)
}

// Rebooting gives Karpenter's condition Rebooting; nil where it is not there.
func Rebooting(claim *karpv1.NodeClaim) *status.Condition {
	for i := range claim.Status.Conditions {
		if claim.Status.Conditions[i].Type == karpv1.ConditionTypeRebooting {
			return &claim.Status.Conditions[i]
		}
	}
	return nil
}

// rebootBegan moves the repair on, and says true, where the reboot that it wants is on its way already: asked for by
// Karpenter's own repair or a person, or by ourselves before a crash; or where the node has booted anew.
func (e *Executor) rebootBegan(repair *v1alpha1.NodeRepair, claim *karpv1.NodeClaim, n *corev1.Node) bool {
	if claim == nil || !claim.DeletionTimestamp.IsZero() {
		return false
	}
	if !Rebooting(claim).IsTrue() && !rebooted(repair, n) {
		return false
	}
	e.asked(repair)
	return true
}

// asked says on the repair that the reboot is in Karpenter's hands.
func (e *Executor) asked(repair *v1alpha1.NodeRepair) {
	message := "Karpenter has been asked to drain and reboot the node"
	if !isTrue(repair, v1alpha1.RepairConditionRebooted) {
		e.setCondition(repair, v1alpha1.RepairConditionRebooted, metav1.ConditionFalse, rebootRequested, message)
	}
	to(repair, v1alpha1.PhaseRebooting, message)
}

// waitToReboot waits until the fence has stood long enough, looks once more past the cache whether the node is still
// sick, still ours and still within the budget, and asks Karpenter for the reboot.
func (e *Executor) waitToReboot(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	// Past the cache, which may be behind a request of our own: what has been asked for must not be let go.
	claim, n, err := e.read(ctx, e.Reader, repair)
	if err != nil || e.rebootBegan(repair, claim, n) {
		return through, err
	}
	if stop, err := e.stopped(ctx, repair); err != nil || stop {
		return through, err
	}
	claim, p, err := e.mayGo(ctx, repair)
	if err != nil || claim == nil {
		return p, err
	}
	return e.requestReboot(ctx, repair, claim)
}

func (e *Executor) read(ctx context.Context, reader client.Reader, repair *v1alpha1.NodeRepair) (*karpv1.NodeClaim, *corev1.Node, error) {
	claim, err := nodeClaim(ctx, reader, repair)
	if err != nil {
		return nil, nil, err
	}
	n, err := node(ctx, reader, repair.Spec.NodeName)
	return claim, n, err
}

// requestReboot asks as Karpenter's own repair does (commitReboot of v1.15.0's disruption/repair.go): the bound of the
// drain in an annotation, then the condition. Both are written against the version that was there before the last look.
func (e *Executor) requestReboot(ctx context.Context, repair *v1alpha1.NodeRepair, claim *karpv1.NodeClaim) (progress, error) {
	n, err := node(ctx, e.Reader, repair.Spec.NodeName)
	if err != nil || e.rebootBegan(repair, claim, n) || e.taken(repair, claim, n) {
		return through, err
	}
	if karpenter := e.Karpenter(); !karpenter.RebootSupported {
		letGoAs(repair, v1alpha1.PhaseCanceled, fmt.Sprintf("the Karpenter beside us (%s) cannot reboot nodes any more", karpenter.Version))
		return through, nil
	}
	message := fmt.Sprintf("rebooting for %s, by NodeRepair %s", repair.Spec.Cause.Reason, repair.Name)
	if err := AskForReboot(ctx, e.Client, e.Clock, claim, repair.Spec.DrainBound, message); err != nil {
		return progress{}, err
	}
	e.asked(repair)
	return through, nil
}

// AskForReboot writes, against the version of the NodeClaim that was read, what Karpenter's reboot controller acts on:
// the bound of the drain (nil: none), then the condition, with a message that says for what.
func AskForReboot(ctx context.Context, kubeClient client.Client, clk clock.Clock, claim *karpv1.NodeClaim, bound *metav1.Duration, message string) error {
	if err := boundReboot(ctx, kubeClient, claim, bound); err != nil {
		return err
	}
	stored := claim.DeepCopy()
	conditions := claim.StatusConditions(status.WithClock(clk), status.WithObservedOnly())
	// Karpenter's metrics and events then say for what the pods are evicted.
	conditions.SetTrueWithReason(karpv1.ConditionTypeDisruptionReason, string(karpv1.DisruptionReasonUnhealthy), string(karpv1.DisruptionReasonUnhealthy))
	conditions.SetTrueWithReason(karpv1.ConditionTypeRebooting, karpv1.RebootReasonRequested, message)
	if err := kubeClient.Status().Patch(ctx, claim, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("asking for the reboot, %w", err)
	}
	return nil
}

// boundReboot sets how long pods may hold up the reboot; nil takes away what an earlier reboot left behind.
func boundReboot(ctx context.Context, kubeClient client.Client, claim *karpv1.NodeClaim, bound *metav1.Duration) error {
	stored := claim.DeepCopy()
	delete(claim.Annotations, karpv1.RebootTerminationGracePeriodAnnotationKey)
	if bound != nil {
		claim.Annotations = lo.Assign(claim.Annotations, map[string]string{karpv1.RebootTerminationGracePeriodAnnotationKey: bound.Duration.String()})
	}
	if equality.Semantic.DeepEqual(stored.Annotations, claim.Annotations) {
		return nil
	}
	if err := kubeClient.Patch(ctx, claim, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("bounding the drain before the reboot, %w", err)
	}
	return nil
}

// reboot follows Karpenter's reboot to its end, and proves it by the boot ID.
func (e *Executor) reboot(ctx context.Context, repair *v1alpha1.NodeRepair) (progress, error) {
	claim, n, err := e.read(ctx, e.Client, repair)
	if err != nil {
		return progress{}, err
	}
	if claim == nil || !Rebooting(claim).IsTrue() || !claim.DeletionTimestamp.IsZero() {
		// At its end, or the cache has not seen the request yet.
		if claim, n, err = e.read(ctx, e.Reader, repair); err != nil {
			return progress{}, err
		}
	}
	switch {
	case claim == nil || !claim.DeletionTimestamp.IsZero():
		e.endedWithTheNode(repair)
		return through, nil
	case Rebooting(claim).IsTrue():
		return e.watchReboot(ctx, repair, claim, n)
	case isTrue(repair, v1alpha1.RepairConditionRebooted) || rebooted(repair, n):
		return e.comesBack(ctx, repair, claim, n)
	case Rebooting(claim) != nil && Rebooting(claim).Reason == karpv1.RebootReasonFailed:
		letGoAs(repair, v1alpha1.PhaseFailed, "Karpenter could not reboot the node: "+Rebooting(claim).Message)
		return through, nil
	default:
		// Karpenter writes some conditions as a whole list without a lock, which may have taken the request away. The
		// boot ID says that nothing has come of it, so it is asked for again, after another look at everything.
		return to(repair, v1alpha1.PhaseWaiting, "the request for the reboot is gone, and the node has not been rebooted; it is looked at once more"), nil
	}
}

// endedWithTheNode ends a repair whose NodeClaim was deleted while Karpenter rebooted it.
func (e *Executor) endedWithTheNode(repair *v1alpha1.NodeRepair) {
	if isTrue(repair, v1alpha1.RepairConditionRebooted) {
		letGoAs(repair, v1alpha1.PhaseYielded, "the node was rebooted, and the NodeClaim was then deleted by somebody else")
		return
	}
	letGoAs(repair, v1alpha1.PhaseFailed, fmt.Sprintf("the NodeClaim was deleted before the node had rebooted, as Karpenter does where the provider refuses the reboot or the node does not come back within %s; there is no replacement of ours: Karpenter makes room for the pods as they need it", observedWithin))
}

// watchReboot says how far Karpenter is. The fence's taint goes as soon as Karpenter's own stands: Karpenter reckons
// with the capacity of a node that bears its own alone, and would launch another for the pods of one that bears ours.
func (e *Executor) watchReboot(ctx context.Context, repair *v1alpha1.NodeRepair, claim *karpv1.NodeClaim, n *corev1.Node) (progress, error) {
	condition := Rebooting(claim)
	tainted := n != nil && lo.ContainsBy(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&karpv1.RebootingNoScheduleTaint) })
	if tainted || rebooted(repair, n) {
		if err := e.liftTaint(ctx, n, repair); err != nil {
			return progress{}, err
		}
	}
	message := e.howFar(repair, condition, tainted)
	against, err := e.objections(ctx, repair)
	if err != nil {
		return progress{}, err
	}
	if against != "" {
		message += ". It cannot be stopped any more: " + against
	}
	repair.Status.Message = truncate(message)
	return wait(lookAgain), nil
}

func (e *Executor) howFar(repair *v1alpha1.NodeRepair, condition *status.Condition, tainted bool) string {
	switch bound := repair.Spec.DrainBound; {
	case condition.Reason == karpv1.RebootReasonIssued:
		return fmt.Sprintf("the node reboots; Karpenter waits up to %s for it, and deletes the NodeClaim if it does not come back", observedWithin)
	case !tainted && e.Clock.Since(condition.LastTransitionTime.Time) > takenUpWithin:
		return "Karpenter has been asked to drain and reboot the node, and has not begun: is it running?"
	case bound != nil:
		return fmt.Sprintf("Karpenter drains the node before it is rebooted; PodDisruptionBudgets are honoured until %s", stamp(condition.LastTransitionTime.Add(bound.Duration)))
	default:
		return "Karpenter drains the node before it is rebooted; PodDisruptionBudgets are honoured without end"
	}
}

// liftTaint takes the fence's taint away and leaves the rest of the fence: the node is not for others to disrupt yet.
func (e *Executor) liftTaint(ctx context.Context, n *corev1.Node, repair *v1alpha1.NodeRepair) error {
	if n == nil || n.Annotations[v1alpha1.FenceOwnerAnnotation] != string(repair.UID) || !lo.ContainsBy(n.Spec.Taints, isFence) {
		return nil
	}
	stored := n.DeepCopy()
	n.Spec.Taints = lo.Reject(n.Spec.Taints, func(t corev1.Taint, _ int) bool { return isFence(t) })
	if err := e.Client.Patch(ctx, n, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("lifting the taint of the rebooting node, %w", err)
	}
	return nil
}

// comesBack waits until the node that has booted anew is Initialized. Until then it holds the budget.
func (e *Executor) comesBack(ctx context.Context, repair *v1alpha1.NodeRepair, claim *karpv1.NodeClaim, n *corev1.Node) (progress, error) {
	if err := e.liftTaint(ctx, n, repair); err != nil {
		return progress{}, err
	}
	if !isTrue(repair, v1alpha1.RepairConditionRebooted) {
		e.setCondition(repair, v1alpha1.RepairConditionRebooted, metav1.ConditionTrue, rebootProved,
			fmt.Sprintf("the boot ID of the node was %q and is %q", bootIDBefore(repair), n.Status.NodeInfo.BootID))
	}
	if n != nil && claim.StatusConditions(status.WithObservedOnly()).Get(karpv1.ConditionTypeInitialized).IsTrue() && n.Labels[karpv1.NodeInitializedLabelKey] == "true" {
		return to(repair, v1alpha1.PhaseReleasing, "the node has rebooted and is Initialized again"), nil
	}
	deadline := e.since(repair, v1alpha1.RepairConditionRebooted).Add(repair.Spec.Replacement.InitializeWithin())
	if left := deadline.Sub(e.Clock.Now()); left > 0 {
		repair.Status.Message = fmt.Sprintf("the node has rebooted; waiting for it to be Initialized again, until %s", stamp(deadline))
		return wait(min(left, lookAgain)), nil
	}
	letGoAs(repair, v1alpha1.PhaseFailed, fmt.Sprintf("the node has rebooted, and was not Initialized again until %s", stamp(deadline)))
	return through, nil
}
