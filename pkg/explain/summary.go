package explain

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/samber/lo"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// summary says how things stand in a sentence or two.
func summary(now time.Time, about About, e Explanation) string {
	said := standing(now, about, e)
	if runs := e.Written.Running; runs != nil && !*runs {
		said += " But no controller is at work, so nothing happens."
	}
	return said
}

func standing(now time.Time, about About, e Explanation) string {
	what := "Node " + e.Node
	if e.Node == "" {
		what = "NodeClaim " + e.NodeClaim
	}
	switch e.State {
	case StateUnwatched:
		return what + " is watched by nobody: there is no NodeHealth of it, so nothing is known of its health and nothing is done."
	case StateHealthy:
		return what + " is healthy: nothing Fatal is found on it."
	case StateUnknown:
		return fmt.Sprintf("Of node %s nothing Fatal is known that can be trusted, but %s cannot be told. It counts neither as sick nor as healthy, and nothing is done about it.",
			e.Node, strings.Join(unknown(about.Diagnosis), " and "))
	case StateShownOnly:
		return fmt.Sprintf("%s has %s, which RepairPolicy %q wants to be shown only (action: None): nothing is done.", what, fatal(about), e.Policy.Name)
	case StateTolerated:
		d := about.Diagnosis.Verdict.Deciding
		return fmt.Sprintf("%s has %s. It is tolerated for another %s, until %s; then the node is %s, unless it recovers.",
			what, fatal(about), duration.HumanDuration(d.EligibleAt.Sub(now)), stamp(d.EligibleAt), done(actionOf(about)))
	case StateBlocked:
		return blockedSummary(what, about, e)
	case StateAdmitted:
		first := ""
		if e.Decision.TerminateFirst {
			first = " before its replacement comes"
		}
		return fmt.Sprintf("%s has %s, and nothing stands in the way: it is %s%s as soon as the controller makes its next pass (within 10s).",
			what, fatal(about), done(e.Decision.Action), first)
	case StateRepairing:
		return fmt.Sprintf("%s is being %s by NodeRepair %s, %s so far: %s.", what, done(e.Repair.Action), e.Repair.Name,
			duration.HumanDuration(now.Sub(e.Repair.Started.Time)), strings.TrimSuffix(e.Repair.Message, "."))
	case StateLeaving:
		return what + " is being deleted, so nothing else is done about it."
	default:
		return what
	}
}

func blockedSummary(what string, about About, e Explanation) string {
	things := "one thing stands"
	if len(e.Blockers) > 1 {
		things = fmt.Sprintf("%d things stand", len(e.Blockers))
	}
	if about.Diagnosis.Verdict.Deciding == nil {
		return fmt.Sprintf("%s has %s, and %s in the way of a repair (%s).", what, fatal(about), things, reasons(e.Blockers))
	}
	return fmt.Sprintf("%s has %s and would be %s, but %s in the way (%s).", what, fatal(about), done(actionOf(about)), things, reasons(e.Blockers))
}

func actionOf(about About) v1alpha1.Action {
	if about.Decision != nil && about.Decision.Action != "" {
		return about.Decision.Action
	}
	return about.Diagnosis.Verdict.Deciding.Action
}

// fatal names the finding that decides, or the worst, and counts the others.
func fatal(about About) string {
	verdict := about.Diagnosis.Verdict
	finding := verdict.Judgements[0].Finding
	if verdict.Deciding != nil {
		finding = verdict.Deciding.Finding
	}
	said := fmt.Sprintf("%s since %s", diagnosis.Title(finding), stamp(finding.Since.Time))
	if more := len(verdict.Judgements) - 1; more > 0 {
		said += fmt.Sprintf(" and %d more", more)
	}
	return said
}

// unknown are the conditions that nobody can tell about.
func unknown(d diagnosis.Diagnosis) []string {
	var names []string
	for _, fact := range facts(d) {
		if fact.Status == metav1.ConditionUnknown {
			names = append(names, strings.TrimPrefix(fact.Type, v1alpha1.Group+"/"))
		}
	}
	return names
}

// ReasonsOf names each kind of blocker once, in their order.
func ReasonsOf(blockers []ExplainedBlocker) []string {
	return lo.Uniq(lo.Map(blockers, func(b ExplainedBlocker, _ int) string { return b.Reason }))
}

func reasons(blockers []ExplainedBlocker) string { return strings.Join(ReasonsOf(blockers), ", ") }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
