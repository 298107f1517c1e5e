package repair

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/events"
)

func changed(before, after *v1alpha1.NodeRepair) bool {
	return !equality.Semantic.DeepEqual(before.Status, after.Status)
}

// tell says what a write has made true, once it has landed: each phase on the NodeClaim; what the node itself goes
// through on the Node; beginning, end and lost replacements on the NodePool. What pkg/events lists is who hears of what.
func (e *Executor) tell(ctx context.Context, before, after *v1alpha1.NodeRepair) {
	phase := after.Status.Phase
	if before.Status.Phase == "" {
		cause := after.Spec.Cause
		e.event(ctx, after, corev1.EventTypeNormal, events.ReasonRepairStarted, fmt.Sprintf("NodeRepair %s: %s of node %s because of %s, by rule %q of RepairPolicy %q",
			after.Name, after.Spec.Action, after.Spec.NodeName, cause.Reason, after.Spec.Policy.Rule, after.Spec.Policy.Name))
	}
	for _, r := range after.WithdrawnSince(before) {
		e.event(ctx, after, corev1.EventTypeWarning, events.ReasonReplacementWithdrawn, fmt.Sprintf("NodeClaim %s: %s", r.NodeClaim, r.Message))
	}
	if before.Status.Phase == phase {
		return
	}
	kind := corev1.EventTypeNormal
	if phase == v1alpha1.PhaseFailed {
		kind = corev1.EventTypeWarning
	}
	e.event(ctx, after, kind, events.PhaseReason(phase), after.Status.Message)
}

// event writes an event for every object that hears of it.
func (e *Executor) event(ctx context.Context, repair *v1alpha1.NodeRepair, kind, reason, note string) {
	turn, _ := events.Lookup(reason)
	for _, about := range turn.About {
		if subject := e.subject(ctx, repair, about); subject != nil {
			e.Recorder.Eventf(subject, repair, kind, reason, string(repair.Spec.Action), "%s", note)
		}
	}
}

// subject gives the object of that kind that a repair is about; nil where there is none any more.
func (e *Executor) subject(ctx context.Context, repair *v1alpha1.NodeRepair, kind string) runtime.Object {
	switch {
	case kind == "NodeClaim":
		return &karpv1.NodeClaim{
			TypeMeta:   metav1.TypeMeta{APIVersion: karpapis.Group + "/v1", Kind: "NodeClaim"},
			ObjectMeta: metav1.ObjectMeta{Name: repair.Spec.NodeClaim.Name, UID: repair.Spec.NodeClaim.UID},
		}
	case kind == "Node" && repair.Spec.NodeName != "" && !isTrue(repair, v1alpha1.RepairConditionTerminated):
		return events.Node(repair.Spec.NodeName)
	case kind == "NodePool" && repair.Spec.NodePool != "":
		pool := &karpv1.NodePool{}
		if err := e.Client.Get(ctx, client.ObjectKey{Name: repair.Spec.NodePool}, pool); err != nil {
			return nil // an event is not worth an error
		}
		return events.NodePool(pool.Name, pool.UID)
	default:
		return nil
	}
}
