package status

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

type statusCondition = status.Condition

// maxMessage is what the API server takes in a condition.
const maxMessage = 32768

func condition(conditionType string, holds bool, reason, message string) metav1.Condition {
	state := metav1.ConditionFalse
	if holds {
		state = metav1.ConditionTrue
	}
	return metav1.Condition{Type: conditionType, Status: state, Reason: reason, Message: lo.Substring(message, 0, maxMessage)}
}

// ready says whether the policy can be used as written.
func ready(policy *v1alpha1.RepairPolicy, problems []string, t counted) metav1.Condition {
	if len(problems) > 0 {
		return condition(v1alpha1.PolicyConditionReady, false, "Invalid", strings.Join(problems, "; "))
	}
	if len(t.conflicts) > 0 {
		others := lo.Keys(t.conflicts)
		sort.Strings(others)
		return condition(v1alpha1.PolicyConditionReady, false, "Conflict", fmt.Sprintf(
			"RepairPolicy %s of the same weight (%d) selects NodeClaim %s too, so neither acts on it: give one of them another weight, or narrow its nodeClaimSelector",
			strings.Join(others, ", "), policy.Spec.Weight, t.conflicts[others[0]]))
	}
	return condition(v1alpha1.PolicyConditionReady, true, "Ready", "the policy can be used as written")
}

// reasonsKnown names reasons that nothing in the catalogue states. They may come from other agents, so it is no error.
func (c *Controller) reasonsKnown(policy *v1alpha1.RepairPolicy) metav1.Condition {
	var unknown []string
	for _, rule := range policy.Spec.Rules {
		for _, reason := range rule.Match.Reasons {
			if !c.known(reason) {
				unknown = append(unknown, fmt.Sprintf("rule %q names %q, which the catalogue does not have; did you mean %q?", rule.Name, reason, c.nearest(reason)))
			}
		}
	}
	if len(unknown) > 0 {
		return condition(v1alpha1.PolicyConditionReasonsKnown, false, "UnknownReason", strings.Join(unknown, "; "))
	}
	return condition(v1alpha1.PolicyConditionReasonsKnown, true, "Known", "the catalogue has every reason that the rules name")
}

// nearest gives the known reason that takes the fewest changes of letters.
func (c *Controller) nearest(reason string) string {
	if len(c.reasons) == 0 {
		return ""
	}
	return slices.MinFunc(c.reasons, func(a, b string) int {
		return levenshtein.Distance(reason, a, nil) - levenshtein.Distance(reason, b, nil)
	})
}

// selects says whether there is any NodeClaim for the policy.
func selects(t counted) metav1.Condition {
	if t.selected == 0 {
		return condition(v1alpha1.PolicyConditionSelects, false, "NoNodeClaims",
			"no NodeClaim has the labels of nodeClaimSelector: compare it with kubectl get nodeclaims --show-labels, or leave it out to select all")
	}
	return condition(v1alpha1.PolicyConditionSelects, true, "Selected", "there are NodeClaims that the policy selects")
}

// paused says of a policy in mode Paused whether that still holds.
func paused(policy *v1alpha1.RepairPolicy, now time.Time) metav1.Condition {
	until, problem := decision.StopUntil("pausedUntil", policy.Spec.PausedUntil)
	stop := decision.Stop{Until: until}
	switch {
	case !stop.Active(now):
		return condition(v1alpha1.PolicyConditionPaused, false, "Ended", fmt.Sprintf(
			"the pause ended at %s, and the policy counts as Enforce: to pause it again write a later pausedUntil, or take it out", policy.Spec.PausedUntil))
	case problem != "":
		return condition(v1alpha1.PolicyConditionPaused, true, "NoEnd", problem)
	case until.IsZero():
		return condition(v1alpha1.PolicyConditionPaused, true, "NoEnd", "nothing is repaired under the policy until its mode is changed")
	default:
		return condition(v1alpha1.PolicyConditionPaused, true, "Until", "nothing is repaired under the policy until "+policy.Spec.PausedUntil)
	}
}

// nextEnd gives the time until the first pause of a policy ends; zero where none does.
func nextEnd(policies []v1alpha1.RepairPolicy, now time.Time) time.Duration {
	var next time.Duration
	for i := range policies {
		until, _ := decision.StopUntil("pausedUntil", policies[i].Spec.PausedUntil)
		left := until.Sub(now)
		if policies[i].Spec.Mode == v1alpha1.ModePaused && left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	return next
}
