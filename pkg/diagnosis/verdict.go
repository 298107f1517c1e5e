package diagnosis

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Diagnose states what is known about a NodeClaim at now, and what its policy makes of it.
func (p *Policies) Diagnose(now time.Time, subject Subject) Diagnosis {
	s := look(subject.Health, now)
	verdict := p.judge(now, subject.Labels, s)
	return Diagnosis{Facts: facts(s), Verdict: verdict, NextChange: nextChange(now, s, verdict)}
}

func (p *Policies) judge(now time.Time, nodeClaimLabels map[string]string, s sight) Verdict {
	governing, conflict := p.governing(nodeClaimLabels)
	verdict := Verdict{Conflict: conflict}
	var rules []compiledRule
	if governing != nil {
		verdict.Policy = governing.policy
		verdict.Invalid = strings.Join(governing.problems, "; ")
	}
	usable := governing != nil && verdict.Invalid == ""
	if usable {
		rules = governing.rules
	}
	for _, finding := range s.findings {
		if finding.Severity != v1alpha1.SeverityFatal {
			continue
		}
		judgement := Judgement{Finding: finding}
		if usable {
			judgement = judgeFinding(finding, governing.policy.Name, rules)
		}
		verdict.Judgements = append(verdict.Judgements, judgement)
	}
	slices.SortFunc(verdict.Judgements, func(a, b Judgement) int { return strongest(now, a, b) })
	verdict.Deciding = deciding(now, verdict.Judgements)
	verdict.Unhealthy = verdict.Deciding != nil && verdict.Deciding.Eligible(now)
	return verdict
}

// judgeFinding applies the first rule that matches. What a person asked for needs no rule and is not tolerated.
func judgeFinding(finding v1alpha1.Finding, policy string, rules []compiledRule) Judgement {
	judgement := Judgement{Finding: finding}
	if finding.Category == v1alpha1.CategoryRequest {
		switch action := v1alpha1.Action(finding.Subject); action {
		case v1alpha1.ActionReplace, v1alpha1.ActionReboot:
			judgement.Policy, judgement.Rule, judgement.Action = policy, RuleRepairRequested, action
			judgement.EligibleAt = finding.Since.Time
		default: // nobody can tell what was asked for
		}
		return judgement
	}
	for _, rule := range rules {
		if !rule.matches(finding) {
			continue
		}
		judgement.Policy, judgement.Rule, judgement.Action = policy, rule.Name, rule.action()
		judgement.EligibleAt = finding.Since.Add(rule.Tolerate.Duration)
		judgement.Priority = rule.Priority
		if rule.DrainBound != nil {
			bound := rule.DrainBound.Duration
			judgement.DrainBound = &bound
		}
		return judgement
	}
	return judgement
}

// Acts says whether the judgement leads to a repair, now or later.
func (j Judgement) Acts() bool {
	return j.Action == v1alpha1.ActionReplace || j.Action == v1alpha1.ActionReboot
}

// Eligible says whether the judgement leads to a repair and its toleration has passed at now.
func (j Judgement) Eligible(now time.Time) bool {
	return j.Acts() && !now.Before(j.EligibleAt)
}

// Requested says whether a person asked for it.
func (j Judgement) Requested() bool { return j.Rule == RuleRepairRequested }

// deciding takes judgements that strongest has sorted.
func deciding(now time.Time, judgements []Judgement) *Judgement {
	if len(judgements) == 0 {
		return nil
	}
	if judgements[0].Eligible(now) {
		return &judgements[0]
	}
	var soonest *Judgement
	for i := range judgements {
		if j := &judgements[i]; j.Acts() && (soonest == nil || j.EligibleAt.Before(soonest.EligibleAt)) {
			soonest = j
		}
	}
	return soonest
}

// strongest orders what may be acted on now first, then the stronger action, the higher priority, the older fault.
func strongest(now time.Time, a, b Judgement) int {
	return cmp.Or(
		cmp.Compare(eligibleRank(now, a), eligibleRank(now, b)),
		cmp.Compare(actionRank(a.Action), actionRank(b.Action)),
		cmp.Compare(b.Priority, a.Priority),
		worstFinding(a.Finding, b.Finding),
	)
}

func eligibleRank(now time.Time, j Judgement) int {
	if j.Eligible(now) {
		return 0
	}
	return 1
}

func actionRank(action v1alpha1.Action) int {
	switch action {
	case v1alpha1.ActionReplace:
		return 0
	case v1alpha1.ActionReboot:
		return 1
	default:
		return 2
	}
}

// nextChange is the first moment after now at which a toleration passes or a source falls silent.
func nextChange(now time.Time, s sight, verdict Verdict) time.Time {
	var next time.Time
	consider := func(at time.Time) {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, judgement := range verdict.Judgements {
		if judgement.Acts() {
			consider(judgement.EligibleAt)
		}
	}
	for _, source := range s.sources {
		if at, ok := health.SilentAt(source.Source); ok {
			consider(at)
		}
	}
	return next
}
