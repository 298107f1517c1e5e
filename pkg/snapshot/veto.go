package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// pauses lists the RepairPauses, of which each stops all repairs, or those in some zones.
func pauses(ctx context.Context, reader client.Reader) ([]decision.Stop, error) {
	list := &v1alpha1.RepairPauseList{}
	if err := reader.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing repairpauses, %w", err)
	}
	var found []decision.Stop
	for i := range list.Items {
		pause := &list.Items[i]
		until, problem := decision.StopUntil("spec.until", pause.Spec.Until)
		found = append(found, decision.Stop{
			What: fmt.Sprintf("RepairPause %q", pause.Name), By: decision.SetBy(pause.ManagedFields, ""), Why: pause.Spec.Reason,
			Zones: pause.Spec.Zones, Until: until, Problem: problem, LiftedBy: "kubectl delete repairpause " + pause.Name,
		})
	}
	return found, nil
}

// poolPauses gives the pause that somebody has put on a NodePool.
func poolPauses(nodePool *karpv1.NodePool) []decision.Stop {
	text, ok := nodePool.Annotations[v1alpha1.PauseAnnotation]
	if !ok || text == "false" {
		return nil
	}
	until, problem := untilOf(text)
	return []decision.Stop{{
		What:  fmt.Sprintf("annotation %s on NodePool %s", v1alpha1.PauseAnnotation, nodePool.Name),
		By:    decision.SetBy(nodePool.ManagedFields, v1alpha1.PauseAnnotation),
		Until: until, Problem: problem, LiftedBy: annotate("nodepool", nodePool.Name, v1alpha1.PauseAnnotation),
	}}
}

// untilOf reads the value of an annotation that stops: "true" has no end, and neither has what cannot be read.
func untilOf(text string) (until time.Time, problem string) {
	if text == "true" {
		return time.Time{}, ""
	}
	if until, problem = decision.StopUntil("its value", text); text == "" || problem != "" {
		problem = fmt.Sprintf(`its value %q is neither "true" nor a time, so it has no end: write for example "2030-01-31T18:00:00Z"`, decision.Clip(text))
	}
	return until, problem
}

// vetoes lists what keeps the node from being repaired: karpenter.sh/do-not-repair or autorepair.sh/do-not-repair on
// the Node, on its NodeClaim, or on its NodePool, where a person has set it. What our own guard and fence have set is no
// veto.
func vetoes(nodeClaim *karpv1.NodeClaim, node *corev1.Node, nodePool *karpv1.NodePool) []decision.Stop {
	var found []decision.Stop
	if node != nil {
		found = append(found, veto("Node", node, ownDoNotRepair(node))...)
	}
	found = append(found, veto("NodeClaim", nodeClaim, false)...)
	if nodePool != nil {
		found = append(found, veto("NodePool", nodePool, false)...)
	}
	return found
}

// NodeVeto gives the veto that somebody has put on the Node itself, whether or not it has ended; false where there is
// none.
func NodeVeto(node *corev1.Node) (decision.Stop, bool) {
	found := veto("Node", node, ownDoNotRepair(node))
	if len(found) == 0 {
		return decision.Stop{}, false
	}
	return found[0], true
}

// veto reads the two annotations on one object. own says that Karpenter's there is ours.
func veto(kind string, object client.Object, own bool) []decision.Stop {
	theirs, hasTheirs := object.GetAnnotations()[karpv1.DoNotRepairAnnotationKey]
	ours, hasOurs := object.GetAnnotations()[v1alpha1.VetoAnnotation]
	hasTheirs, hasOurs = hasTheirs && !own && theirs != "false", hasOurs && ours != "false"
	var set []string
	if hasTheirs {
		set = append(set, karpv1.DoNotRepairAnnotationKey)
	}
	stop := decision.Stop{}
	if hasOurs {
		set = append(set, v1alpha1.VetoAnnotation)
		stop.Until, stop.Problem = untilOf(ours)
	}
	if len(set) == 0 {
		return nil
	}
	if hasTheirs && theirs != "true" && stop.Problem == "" {
		stop.Problem = fmt.Sprintf(`%s is %q, which Karpenter does not know: write "true", and an end into %s`,
			karpv1.DoNotRepairAnnotationKey, decision.Clip(theirs), v1alpha1.VetoAnnotation)
	}
	stop.What = fmt.Sprintf("annotation %s on %s %s", strings.Join(set, " and "), kind, object.GetName())
	stop.By = decision.SetBy(object.GetManagedFields(), set[len(set)-1])
	stop.LiftedBy = annotate(strings.ToLower(kind), object.GetName(), set...)
	return []decision.Stop{stop}
}

// annotate gives the command that removes annotations.
func annotate(resource, name string, annotations ...string) string {
	return fmt.Sprintf("kubectl annotate %s %s %s-", resource, name, strings.Join(annotations, "- "))
}

// ownDoNotRepair says whether we have set karpenter.sh/do-not-repair on the Node ourselves: as a guard, or as a part of
// the fence of a repair that found no such annotation. A fence that cannot be read counts as a person's: in doubt the
// node is left alone.
func ownDoNotRepair(node *corev1.Node) bool {
	if _, guarded := node.Annotations[v1alpha1.GuardedAnnotation]; guarded {
		return true
	}
	if node.Annotations[v1alpha1.FenceOwnerAnnotation] == "" {
		return false
	}
	before := map[string]*string{}
	if err := json.Unmarshal([]byte(node.Annotations[v1alpha1.FenceRestoreAnnotation]), &before); err != nil {
		return false
	}
	value, fenced := before[karpv1.DoNotRepairAnnotationKey]
	return fenced && (value == nil || *value == "false")
}
