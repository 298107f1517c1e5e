// Package explain puts a diagnosis, a decision and a repair into the words that people read on a NodeClaim. It is
// pure: values and now go in, conditions come out.
package explain

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// maxMessage is the longest message, in characters, that the API server takes in a condition.
const maxMessage = 32768

// Conditions gives every condition of ours that a NodeClaim has now; those that are not among them shall be gone. dec
// is the newest decision about it, nil where there is none; it may be older than d. repair is its newest NodeRepair,
// nil where there is none. Messages hold no relative times, so they change only when the matter does. The time of the
// last transition is left zero, for Merge or the writer to fill in.
func Conditions(now time.Time, d diagnosis.Diagnosis, dec *decision.Decision, repair *v1alpha1.NodeRepair) []metav1.Condition {
	if repair != nil && repair.Finished() {
		repair = nil
	}
	out := make([]metav1.Condition, 0, len(d.Facts)+3)
	for _, fact := range d.Facts {
		out = append(out, condition(health.ConditionType(fact.Category), fact.Status, fact.Reason, fact.Message))
	}
	if d.Verdict.Unhealthy {
		out = append(out, unhealthy(d.Verdict, dec, repair))
	}
	if repair != nil {
		return append(out, repairing(repair))
	}
	if blockers := blockers(now, d.Verdict, dec); len(blockers) > 0 {
		out = append(out, blocked(blockers))
	}
	return out
}

func condition(conditionType string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: conditionType, Status: status, Reason: reason, Message: bound(message)}
}

// unhealthy says what was found, since when, by which policy and rule it counts, and what will be done when.
func unhealthy(verdict diagnosis.Verdict, dec *decision.Decision, repair *v1alpha1.NodeRepair) metav1.Condition {
	deciding := verdict.Deciding
	lines := []string{diagnosis.Describe(deciding.Finding), sentence(deciding, dec, repair)}
	var others []string
	for i := range verdict.Judgements {
		if other := &verdict.Judgements[i]; !same(other.Finding, deciding.Finding) {
			others = append(others, diagnosis.Describe(other.Finding))
		}
	}
	if len(others) > 0 {
		lines = append(lines, "also: "+strings.Join(others, "; "))
	}
	return condition(v1alpha1.ConditionUnhealthy, metav1.ConditionTrue, deciding.Finding.Reason, strings.Join(lines, "\n"))
}

func same(a, b v1alpha1.Finding) bool {
	return a.Source == b.Source && a.Reason == b.Reason && a.Subject == b.Subject
}

func sentence(deciding *diagnosis.Judgement, dec *decision.Decision, repair *v1alpha1.NodeRepair) string {
	why := fmt.Sprintf("rule %q of RepairPolicy %q tolerated it until %s",
		deciding.Rule, deciding.Policy, deciding.EligibleAt.UTC().Format(time.RFC3339))
	if deciding.Requested() {
		why = "a person asked for the repair"
	}
	if repair != nil {
		return fmt.Sprintf("%s; being %s by NodeRepair %s", why, done(repair.Spec.Action), repair.Name)
	}
	action, drainBound := deciding.Action, deciding.DrainBound
	if dec != nil && dec.Action != "" {
		action, drainBound = dec.Action, dec.DrainBound
	}
	parts := []string{why, fmt.Sprintf("to be %s as soon as nothing blocks it", done(action))}
	if drainBound != nil {
		parts = append(parts, fmt.Sprintf("pods may hold up the drain for %s", drainBound))
	}
	if dec != nil && dec.Note != "" {
		parts = append(parts, dec.Note)
	}
	return strings.Join(parts, "; ")
}

func done(action v1alpha1.Action) string {
	if action == v1alpha1.ActionReboot {
		return "rebooted"
	}
	return "replaced"
}

// blockers joins what the verdict itself says at now with what the decision, which may be older, says besides.
func blockers(now time.Time, verdict diagnosis.Verdict, dec *decision.Decision) []decision.Blocker {
	if dec == nil {
		return decision.PolicyBlockers(now, verdict, "", requested(verdict))
	}
	out := decision.PolicyBlockers(now, verdict, dec.Action, requested(verdict) || dec.Node.Requested)
	if verdict.Deciding == nil && len(out) == 0 {
		return nil // the fault that was decided about has gone
	}
	for _, b := range dec.Blockers {
		if !decision.IsPolicyBlocker(b.Reason) && b.Reason != decision.BlockerRepairInProgress {
			out = append(out, b)
		}
	}
	return out
}

func requested(verdict diagnosis.Verdict) bool {
	for _, j := range verdict.Judgements {
		if j.Requested() {
			return true
		}
	}
	return false
}

// blocked has the first blocker as its reason, and one line for each.
func blocked(blockers []decision.Blocker) metav1.Condition {
	lines := make([]string, 0, len(blockers))
	for _, b := range blockers {
		line := fmt.Sprintf("%s: %s", b.Reason, b.Message)
		if b.LiftedBy != "" {
			line += ". To lift it: " + b.LiftedBy
		}
		lines = append(lines, line)
	}
	return condition(v1alpha1.ConditionRepairBlocked, metav1.ConditionTrue, string(blockers[0].Reason), strings.Join(lines, "\n"))
}

func repairing(repair *v1alpha1.NodeRepair) metav1.Condition {
	phase := cmp.Or(repair.Status.Phase, v1alpha1.PhaseCommitted)
	message := fmt.Sprintf("NodeRepair %s: %s", repair.Name, cmp.Or(repair.Status.Message, nextOf(phase, repair.Spec.Action)))
	return condition(v1alpha1.ConditionRepairing, metav1.ConditionTrue, string(phase), message)
}

// nextOf says what happens next in a phase, where the repair itself does not.
func nextOf(phase v1alpha1.Phase, action v1alpha1.Action) string {
	if action == v1alpha1.ActionReboot {
		if said := nextOfReboot(phase); said != "" {
			return said
		}
	}
	switch phase {
	case v1alpha1.PhaseCommitted, v1alpha1.PhaseFencing:
		return "the node is being fenced off from new pods"
	case v1alpha1.PhaseProvisioning:
		return "a replacement is being made"
	case v1alpha1.PhaseWaiting:
		return "waiting for the replacement to become Initialized"
	case v1alpha1.PhaseTerminating:
		return "Karpenter drains and terminates the node"
	case v1alpha1.PhaseRebooting:
		return "Karpenter drains and reboots the node"
	case v1alpha1.PhaseReleasing:
		return "the replacement's protection is being lifted"
	case v1alpha1.PhaseVerifying:
		return "the replacement has to prove healthy"
	case v1alpha1.PhaseLettingGo:
		return "the node is let go, and an unused replacement withdrawn"
	default:
		return string(phase)
	}
}

// nextOfReboot says it where a reboot has other words for the phase; empty where it has none.
func nextOfReboot(phase v1alpha1.Phase) string {
	switch phase {
	case v1alpha1.PhaseWaiting:
		return "the node is looked at once more before it is rebooted"
	case v1alpha1.PhaseReleasing:
		return "the rebooted node's protection is being lifted"
	case v1alpha1.PhaseVerifying:
		return "the rebooted node has to prove healthy"
	case v1alpha1.PhaseLettingGo:
		return "the node is let go"
	default:
		return ""
	}
}

// bound keeps a message within what the API server takes.
func bound(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	runes := []rune(message)
	if len(runes) <= maxMessage {
		return message
	}
	return string(runes[:maxMessage-1]) + "…"
}
