package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

func gatePolicy(ix *index, c *candidate) []Blocker {
	return PolicyBlockers(ix.in.Now, c.node.Verdict, c.action, c.requested)
}

// liftByRequest is how a person gets past what only time would lift.
const liftByRequest = "annotate the Node with " + v1alpha1.RepairRequestAnnotation + "=Replace to repair it at once"

// policyReasons are the blockers that follow from a verdict alone.
var policyReasons = []BlockerReason{
	BlockerTolerating, BlockerNoPolicy, BlockerPolicyConflict, BlockerPolicyInvalid, BlockerPaused, BlockerDryRun,
}

// IsPolicyBlocker says whether PolicyBlockers gives blockers of this reason.
func IsPolicyBlocker(reason BlockerReason) bool { return slices.Contains(policyReasons, reason) }

// PolicyBlockers gives what stands in the way by the verdict alone, so that it can be explained before any decision
// has been made. action is what the decision would do, or empty for the verdict's own; requested says that a person
// asked for the repair, which ends the toleration. A verdict that asks for no repair gives none.
func PolicyBlockers(now time.Time, verdict diagnosis.Verdict, action v1alpha1.Action, requested bool) []Blocker {
	if !wantsRepair(verdict) {
		return nil
	}
	var out []Blocker
	for _, blockers := range [][]Blocker{
		tolerating(now, verdict, requested), noPolicy(verdict), conflict(verdict), invalid(verdict), mode(now, verdict, action),
	} {
		out = append(out, blockers...)
	}
	return out
}

// wantsRepair says whether a verdict holds a fault that a rule acts on, or one that no rule speaks of. Faults that a
// policy wants to be shown only (action None) ask for nothing.
func wantsRepair(verdict diagnosis.Verdict) bool {
	return verdict.Deciding != nil ||
		slices.ContainsFunc(verdict.Judgements, func(j diagnosis.Judgement) bool { return j.Rule == "" })
}

// tolerating closes until the policy's patience with the finding has run out.
func tolerating(now time.Time, verdict diagnosis.Verdict, requested bool) []Blocker {
	d := verdict.Deciding
	if d == nil || requested || d.Eligible(now) {
		return nil
	}
	return []Blocker{{
		Reason: BlockerTolerating,
		Message: fmt.Sprintf("%s since %s is tolerated until %s by rule %q of RepairPolicy %q",
			diagnosis.Title(d.Finding), stamp(d.Finding.Since.Time), stamp(d.EligibleAt), d.Rule, d.Policy),
		RetryAt:  d.EligibleAt,
		LiftedBy: liftByRequest,
	}}
}

// noPolicy closes where nobody said what to do.
func noPolicy(verdict diagnosis.Verdict) []Blocker {
	switch {
	case len(verdict.Conflict) > 0 || verdict.Invalid != "" || verdict.Deciding != nil:
		return nil
	case verdict.Policy == nil:
		return []Blocker{{
			Reason:   BlockerNoPolicy,
			Message:  "no RepairPolicy selects the NodeClaim",
			LiftedBy: "create a RepairPolicy whose nodeClaimSelector matches the NodeClaim's labels",
		}}
	}
	unmatched := slices.DeleteFunc(slices.Clone(verdict.Judgements), func(j diagnosis.Judgement) bool { return j.Rule != "" })
	return []Blocker{{
		Reason:   BlockerNoPolicy,
		Message:  fmt.Sprintf("no rule of RepairPolicy %q matches %s", verdict.Policy.Name, strings.Join(titles(unmatched), ", ")),
		LiftedBy: fmt.Sprintf("add a rule to RepairPolicy %q that matches it, with action: None to only show it", verdict.Policy.Name),
	}}
}

// conflict closes where policies of equal weight disagree on who governs.
func conflict(verdict diagnosis.Verdict) []Blocker {
	if len(verdict.Conflict) == 0 {
		return nil
	}
	return []Blocker{{
		Reason:   BlockerPolicyConflict,
		Message:  fmt.Sprintf("the RepairPolicies %s have equal weight and all select the NodeClaim", strings.Join(verdict.Conflict, ", ")),
		LiftedBy: "give one of them a higher weight, or let them select different NodeClaims",
	}}
}

// invalid closes where the policy cannot be used as written.
func invalid(verdict diagnosis.Verdict) []Blocker {
	if verdict.Policy == nil || verdict.Invalid == "" {
		return nil
	}
	return []Blocker{{
		Reason:   BlockerPolicyInvalid,
		Message:  fmt.Sprintf("RepairPolicy %q cannot be used: %s", verdict.Policy.Name, verdict.Invalid),
		LiftedBy: fmt.Sprintf("correct RepairPolicy %q", verdict.Policy.Name),
	}}
}

// mode closes where the policy only looks on.
func mode(now time.Time, verdict diagnosis.Verdict, action v1alpha1.Action) []Blocker {
	if verdict.Policy == nil {
		return nil
	}
	name := verdict.Policy.Name
	switch verdict.Policy.Spec.Mode {
	case v1alpha1.ModePaused:
		return pausedBy(verdict.Policy, now)
	case v1alpha1.ModeDryRun:
		return []Blocker{{
			Reason:   BlockerDryRun,
			Message:  fmt.Sprintf("RepairPolicy %q is in mode DryRun: it %s", name, wouldDo(verdict.Deciding, action)),
			LiftedBy: fmt.Sprintf("set mode: Enforce in RepairPolicy %q", name),
		}}
	default:
		return nil
	}
}

func wouldDo(deciding *diagnosis.Judgement, action v1alpha1.Action) string {
	if deciding == nil {
		return "would do nothing about what it has no rule for"
	}
	if action == "" {
		action = deciding.Action
	}
	verb := "replace"
	if action == v1alpha1.ActionReboot {
		verb = "reboot"
	}
	return fmt.Sprintf("would %s the node for %s once nothing else blocks it", verb, diagnosis.Title(deciding.Finding))
}

func titles(judgements []diagnosis.Judgement) []string {
	out := make([]string, 0, len(judgements))
	for _, j := range judgements {
		out = append(out, diagnosis.Title(j.Finding))
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
