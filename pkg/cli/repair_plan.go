package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
)

// planRepair says what asking for a repair writes, and what will come of it: the decision is made as the controller will
// make it, on the fleet with the request in it.
func planRepair(ctx context.Context, fleet *Fleet, machine Machine, action v1alpha1.Action) (*Change, error) {
	claim, node := machine.NodeClaim, machine.Node
	switch {
	case claim == nil:
		return nil, fmt.Errorf("node %s is not Karpenter's (no NodeClaim has its provider ID), and only Karpenter's nodes are repaired", node.Name)
	case node == nil:
		return nil, fmt.Errorf("NodeClaim %s has no Node yet: Karpenter itself ends NodeClaims whose nodes do not join", claim.Name)
	case !claim.DeletionTimestamp.IsZero():
		return nil, fmt.Errorf("NodeClaim %s is being deleted already, since %s", claim.Name, stamp(claim.DeletionTimestamp.Time))
	}
	change := &Change{}
	if repair := fleet.unfinished(claim.UID); repair != nil {
		change.means("NodeRepair %s is at work on node %s already (%s, phase %s), so nothing is asked for", repair.Name, node.Name, repair.Spec.Action, repair.Status.Phase)
		return change, nil
	}
	switch asked := node.Annotations[v1alpha1.RepairRequestAnnotation]; asked {
	case string(action):
		change.means("%s of node %s has been asked for already", action, node.Name)
	case "":
		change.does(annotate(node, v1alpha1.RepairRequestAnnotation, string(action)),
			"ask for %s of node %s (NodeClaim %s): annotation %s=%s", action, node.Name, claim.Name, v1alpha1.RepairRequestAnnotation, action)
	default:
		change.does(annotate(node, v1alpha1.RepairRequestAnnotation, string(action)),
			"ask for %s of node %s (NodeClaim %s) in the place of %s: annotation %s=%s", action, node.Name, claim.Name, asked, v1alpha1.RepairRequestAnnotation, action)
	}
	decided, survey, err := decideRequest(ctx, fleet, machine, action)
	if err != nil {
		return nil, err
	}
	tellRequest(change, decided, survey, fleet.lacks("pods"))
	if fleet.KarpenterAssumed {
		change.means("which Karpenter runs here could not be found out, so the controller may know better")
	}
	return change, nil
}

// unfinished gives the NodeRepair at work on a NodeClaim; nil where there is none.
func (f *Fleet) unfinished(uid types.UID) *v1alpha1.NodeRepair {
	for i := range f.Repairs {
		if repair := &f.Repairs[i]; repair.Spec.NodeClaim.UID == uid && !repair.Finished() {
			return repair
		}
	}
	return nil
}

// decideRequest decides on the fleet as it will be once the request has been seen.
func decideRequest(ctx context.Context, fleet *Fleet, machine Machine, action v1alpha1.Action) (*decision.Decision, decision.Survey, error) {
	asked := *fleet
	asked.Health = slices.Clone(fleet.Health)
	asked.addRequest(machine.Node.Name, action)
	in, err := asked.Input(ctx)
	if err != nil {
		return nil, decision.Survey{}, err
	}
	survey := decision.SurveyOf(in)
	for _, d := range decision.Decide(in).Decisions {
		if d.Node.NodeClaimUID == machine.NodeClaim.UID {
			return &d, survey, nil
		}
	}
	return nil, survey, nil
}

// addRequest adds what the controller states about a node that carries the annotation.
func (f *Fleet) addRequest(nodeName string, action v1alpha1.Action) {
	i := slices.IndexFunc(f.Health, func(h v1alpha1.NodeHealth) bool { return h.Name == nodeName })
	if i < 0 {
		f.Health = append(f.Health, v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: nodeName}})
		i = len(f.Health) - 1
	}
	health := f.Health[i].DeepCopy()
	health.Sources = slices.DeleteFunc(health.Sources, func(s v1alpha1.Source) bool { return s.Name == cluster.SourceRepairRequest })
	health.Sources = append(health.Sources, v1alpha1.Source{Name: cluster.SourceRepairRequest, State: v1alpha1.SourceActive})
	health.Findings = slices.DeleteFunc(health.Findings, func(f v1alpha1.Finding) bool { return f.Source == cluster.SourceRepairRequest })
	health.Findings = append(health.Findings, v1alpha1.Finding{
		Source: cluster.SourceRepairRequest, Reason: cluster.ReasonRepairRequested, Subject: string(action), Category: v1alpha1.CategoryRequest,
		Severity: v1alpha1.SeverityFatal, Since: metav1.NewTime(f.Now),
	})
	f.Health[i] = *health
}

// tellRequest says what will come of a request.
func tellRequest(change *Change, d *decision.Decision, survey decision.Survey, withoutPods bool) {
	if d == nil {
		change.means("nothing will come of it: the node is leaving")
		return
	}
	if d.Admitted {
		change.means("it starts within seconds: nothing stands in the way")
	} else {
		change.means("it does not start yet, because of:")
		for _, b := range d.Blockers {
			line := fmt.Sprintf("  %s: %s", b.Reason, b.Message)
			if b.LiftedBy != "" {
				line += ". To lift it: " + b.LiftedBy
			}
			change.means("%s", line)
		}
	}
	if policy := d.Node.Verdict.Policy; policy != nil {
		change.means("RepairPolicy %q governs it; what a person asks for is not tolerated first", policy.Name)
	}
	if a, ok := survey.Allowances[d.Node.NodePool]; ok {
		pool := PoolStatus{Name: d.Node.NodePool, InFlight: a.InFlight, Limit: limitOf(a), Problem: a.Problem}
		change.means("disruption budget of NodePool %q for reason Unhealthy: %s in use", d.Node.NodePool, pool.budget())
	}
	tellAction(change, d, withoutPods)
}

// tellAction says how the node will go, and what that means for its pods.
func tellAction(change *Change, d *decision.Decision, withoutPods bool) {
	switch {
	case d.Action == v1alpha1.ActionReboot:
		change.means("Karpenter drains the node and reboots it in place")
	case d.TerminateFirst:
		change.means("the node goes before a replacement stands")
	case withoutPods:
		change.means("a replacement is made first if pods have to move, which you may not see")
	case d.Node.ReschedulablePods == 0:
		change.means("no pod has to move, so the node goes without a replacement")
	default:
		change.means("a replacement is made first, for %s that must move; the node goes once it stands", plural(d.Node.ReschedulablePods, "pod"))
	}
	if d.Note != "" {
		change.means("%s", d.Note)
	}
	if d.DrainBound != nil {
		change.means("pods may hold up the drain for %s", d.DrainBound)
	} else {
		change.means("pods that may not be disrupted hold up the drain without end")
	}
	if len(d.Node.PodBlockers) > 0 && d.DrainBound != nil {
		change.means("which hold it up now: %s", strings.Join(d.Node.PodBlockers, "; "))
	}
}
