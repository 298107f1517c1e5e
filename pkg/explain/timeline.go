package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// Moment is something that has happened, or is known to happen, at a time.
type Moment struct {
	At metav1.Time `json:"at"`
	// What happens, in words.
	What string `json:"what"`
	// Repair is the NodeRepair that it belongs to; empty where it belongs to none.
	Repair string `json:"repair,omitempty"`
}

type moments []Moment

func (m *moments) add(at time.Time, repair, format string, args ...any) {
	if at.IsZero() {
		return
	}
	*m = append(*m, Moment{At: metav1.NewTime(at.UTC()), Repair: repair, What: fmt.Sprintf(format, args...)})
}

// sorted orders by time; what happens in the same second stays in the order in which it was added.
func (m moments) sorted() []Moment {
	if m == nil {
		return []Moment{}
	}
	slices.SortStableFunc(m, func(a, b Moment) int { return a.At.Compare(b.At.Time) })
	return m
}

// timeline tells what has happened: the beginning of what is found now, and every step of the repairs.
func timeline(now time.Time, about About, repairs []v1alpha1.NodeRepair) []Moment {
	var m moments
	m.add(about.NodeClaim.CreationTimestamp.Time, "", "NodeClaim %s was made", about.NodeClaim.Name)
	for i := range repairs {
		m.repair(about, &repairs[i])
	}
	if about.Health != nil {
		for _, finding := range about.Health.Findings {
			m.add(finding.Since.Time, "", "%s began (%s, %s)", diagnosis.Title(finding), finding.Severity, finding.Source)
		}
	}
	for _, judgement := range about.Diagnosis.Verdict.Judgements {
		if judgement.Acts() && !judgement.Requested() && judgement.Eligible(now) {
			m.add(judgement.EligibleAt, "", "the toleration of %s ended (rule %q of RepairPolicy %q)", diagnosis.Title(judgement.Finding), judgement.Rule, judgement.Policy)
		}
	}
	if about.NodeClaim.DeletionTimestamp != nil {
		m.add(about.NodeClaim.DeletionTimestamp.Time, "", "NodeClaim %s was deleted; Karpenter drains and terminates it", about.NodeClaim.Name)
	}
	return m.sorted()
}

func (m *moments) repair(about About, repair *v1alpha1.NodeRepair) {
	whose := ""
	if repair.Spec.NodeClaim.UID != about.NodeClaim.UID {
		whose = " of NodeClaim " + repair.Spec.NodeClaim.Name
		if madeBy(about, repair) {
			whose += ", which this one replaces"
		}
	}
	cause := strings.TrimSpace(repair.Spec.Cause.Reason + " " + repair.Spec.Cause.Subject)
	m.add(repair.CreationTimestamp.Time, repair.Name, "repair began%s: %s for %s (rule %q of RepairPolicy %q)", whose, repair.Spec.Action, cause,
		repair.Spec.Policy.Rule, repair.Spec.Policy.Name)
	for _, r := range repair.Status.Replacements {
		m.replacement(repair, r)
	}
	for _, condition := range repair.Status.Conditions {
		if said := stepOf(condition); said != "" {
			m.add(condition.LastTransitionTime.Time, repair.Name, "%s", said)
		}
	}
	if repair.Status.FinishedAt != nil {
		m.add(repair.Status.FinishedAt.Time, repair.Name, "repair %s", ended(repair))
	}
}

func (m *moments) replacement(repair *v1alpha1.NodeRepair, r v1alpha1.ReplacementStatus) {
	at := func(t *metav1.Time) time.Time {
		if t == nil {
			return time.Time{}
		}
		return t.Time
	}
	m.add(at(r.CreatedAt), repair.Name, "replacement %s was made (attempt %d)", r.NodeClaim, r.Attempt)
	m.add(at(r.LaunchedAt), repair.Name, "replacement %s was launched", r.NodeClaim)
	m.add(at(r.InitializedAt), repair.Name, "replacement %s was ready for use", r.NodeClaim)
	m.add(at(r.WithdrawnAt), repair.Name, "replacement %s was withdrawn: %s", r.NodeClaim, r.Message)
}

// stepOf says what it means that a condition of a repair has come to its present status; empty where replacements and the
// end say it better.
func stepOf(condition metav1.Condition) string {
	done := condition.Status == metav1.ConditionTrue
	switch condition.Type {
	case v1alpha1.RepairConditionFenced:
		if done {
			return "the node was fenced off from new pods"
		}
	case v1alpha1.RepairConditionTerminated:
		if done {
			return "the node was gone"
		}
		return "the node was given up: Karpenter drains and terminates it"
	case v1alpha1.RepairConditionRebooted:
		if done {
			return "the node was rebooted"
		}
		return "Karpenter was asked to reboot the node"
	case v1alpha1.RepairConditionReleased:
		if done {
			return "the protection was lifted, and the proof began"
		}
	case v1alpha1.RepairConditionVerified:
		if done && condition.Reason == v1alpha1.VerifiedHealthy {
			return "proved healthy"
		}
	}
	return ""
}

func ended(repair *v1alpha1.NodeRepair) string {
	said := strings.ToLower(string(repair.Status.Phase))
	if repair.Status.Message != "" {
		said += ": " + repair.Status.Message
	}
	return said
}

// next tells what is known to happen.
func next(now time.Time, about About, blockers []ExplainedBlocker, repair *v1alpha1.NodeRepair) []Moment {
	var m moments
	if repair != nil {
		m.ofRepair(now, about, repair)
		return m.sorted()
	}
	for _, judgement := range about.Diagnosis.Verdict.Judgements {
		if judgement.Acts() && judgement.EligibleAt.After(now) {
			then := "then nothing else blocks its repair"
			if len(blockers) > 1 {
				then = "the other blockers still hold then, as far as can be seen"
			}
			m.add(judgement.EligibleAt, "", "the toleration of %s ends (rule %q: %s); %s", diagnosis.Title(judgement.Finding), judgement.Rule, judgement.Action, then)
		}
	}
	for _, b := range blockers {
		if b.At == nil || !b.At.After(now) || b.Reason == string(decision.BlockerTolerating) {
			continue
		}
		m.add(b.At.Time, "", "%s", retry(decision.BlockerReason(b.Reason)))
	}
	return m.sorted()
}

// retry says what it means that a blocker is looked at again.
func retry(reason decision.BlockerReason) string {
	switch reason {
	case decision.BlockerPaused, decision.BlockerAllPaused, decision.BlockerZonePaused, decision.BlockerNodePoolPaused:
		return fmt.Sprintf("the pause (%s) ends", reason)
	case decision.BlockerVeto:
		return "the veto ends"
	case decision.BlockerBudget:
		return "the budget of the NodePool changes by its schedule"
	case decision.BlockerBackoff, decision.BlockerCorrelated:
		return fmt.Sprintf("the next repair may start at the earliest (%s)", reason)
	default:
		return fmt.Sprintf("%s is looked at again", reason)
	}
}

// ofRepair tells the limits of what a repair waits for.
func (m *moments) ofRepair(now time.Time, about About, repair *v1alpha1.NodeRepair) {
	coming := func(at time.Time, format string, args ...any) {
		if at.After(now) {
			m.add(at, repair.Name, format, args...)
		}
	}
	spec := repair.Spec.Replacement
	if at := repair.Status.NextAttemptAt; at != nil {
		coming(at.Time, "the next replacement is tried")
	}
	for _, r := range repair.Status.Replacements {
		switch {
		case r.WithdrawnAt != nil || r.InitializedAt != nil:
		case r.LaunchedAt != nil:
			coming(r.LaunchedAt.Add(spec.InitializeWithin()), "replacement %s is withdrawn if it is not ready for use by then", r.NodeClaim)
		case r.CreatedAt != nil:
			coming(r.CreatedAt.Add(spec.LaunchWithin()), "replacement %s is withdrawn if it is not launched by then", r.NodeClaim)
		}
	}
	if gone := about.NodeClaim.DeletionTimestamp; gone != nil && repair.Spec.DrainBound != nil {
		coming(gone.Add(repair.Spec.DrainBound.Duration), "the drain bound is reached: pods hold up the node's end no longer")
	}
	if repair.Status.Phase == v1alpha1.PhaseVerifying {
		for _, condition := range repair.Status.Conditions {
			if condition.Type == v1alpha1.RepairConditionReleased {
				coming(condition.LastTransitionTime.Add(spec.WatchFor()), "proved healthy, if nothing Fatal is found until then")
			}
		}
	}
}
