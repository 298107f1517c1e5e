package diagnosis

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Policies are RepairPolicies made ready for use: selectors and patterns are compiled once. It is safe for
// concurrent use.
type Policies struct {
	ordered []*compiledPolicy // by descending weight, then name
}

type compiledPolicy struct {
	policy   *v1alpha1.RepairPolicy
	selector labels.Selector
	rules    []compiledRule
	problems []string
}

type compiledRule struct {
	*v1alpha1.RepairRule
	pattern *regexp.Regexp
}

// Compile makes policies ready for use. A policy that cannot be used as written is kept with its Problems: what it
// selects is not repaired, rather than left to a policy of lower weight.
func Compile(policies []v1alpha1.RepairPolicy) *Policies {
	out := &Policies{ordered: make([]*compiledPolicy, 0, len(policies))}
	for i := range policies {
		out.ordered = append(out.ordered, compilePolicy(policies[i].DeepCopy()))
	}
	slices.SortFunc(out.ordered, func(a, b *compiledPolicy) int {
		return cmp.Or(cmp.Compare(b.policy.Spec.Weight, a.policy.Spec.Weight), cmp.Compare(a.policy.Name, b.policy.Name))
	})
	return out
}

// Problems says why a policy cannot be used as written, each with what to write instead; empty where it can.
func (p *Policies) Problems(policyName string) []string {
	for _, c := range p.ordered {
		if c.policy.Name == policyName {
			return slices.Clone(c.problems)
		}
	}
	return nil
}

// Governing gives the policy that governs a NodeClaim with these labels: the one of the highest weight that selects
// it, nil where none does. Where several of that weight do, it is nil too and conflict names them.
func (p *Policies) Governing(nodeClaimLabels map[string]string) (policy *v1alpha1.RepairPolicy, conflict []string) {
	governing, conflict := p.governing(nodeClaimLabels)
	if governing == nil {
		return nil, conflict
	}
	return governing.policy, nil
}

func (p *Policies) governing(nodeClaimLabels map[string]string) (*compiledPolicy, []string) {
	var best *compiledPolicy
	var equals []string
	for _, c := range p.ordered {
		if best != nil && c.policy.Spec.Weight < best.policy.Spec.Weight {
			break
		}
		if !c.selector.Matches(labels.Set(nodeClaimLabels)) {
			continue
		}
		best = cmp.Or(best, c)
		equals = append(equals, c.policy.Name)
	}
	if len(equals) > 1 {
		return nil, equals
	}
	return best, nil
}

func compilePolicy(policy *v1alpha1.RepairPolicy) *compiledPolicy {
	c := &compiledPolicy{policy: policy}
	c.selector, c.problems = compileSelector(policy.Spec.NodeClaimSelector)
	if len(policy.Spec.Rules) == 0 {
		c.problems = append(c.problems, "it has no rules: write at least one, with match and tolerate")
	}
	for i := range policy.Spec.Rules {
		rule, problems := compileRule(&policy.Spec.Rules[i])
		c.rules = append(c.rules, rule)
		c.problems = append(c.problems, problems...)
	}
	switch policy.Spec.Mode {
	case "", v1alpha1.ModeEnforce, v1alpha1.ModeDryRun, v1alpha1.ModePaused:
	default:
		c.problems = append(c.problems, fmt.Sprintf("mode %q is unknown: write Enforce, DryRun or Paused", policy.Spec.Mode))
	}
	if limit := policy.Spec.CorrelatedFailure.MaxUnhealthy; limit != nil {
		if _, err := intstr.GetScaledValueFromIntOrPercent(limit, 100, false); err != nil {
			c.problems = append(c.problems, fmt.Sprintf(
				"correlatedFailure.maxUnhealthy %q is neither a number nor a share: write for example \"20%%\"", limit.String()))
		}
	}
	return c
}

// compileSelector leaves out what it cannot read. So an unreadable policy selects rather too much than too little,
// and what it may have been meant to keep from repair is not repaired under another policy.
func compileSelector(selector *metav1.LabelSelector) (labels.Selector, []string) {
	compiled := labels.Everything()
	if selector == nil {
		return compiled, nil
	}
	var problems []string
	for _, part := range selectorParts(selector) {
		s, err := metav1.LabelSelectorAsSelector(part)
		if err != nil {
			problems = append(problems, fmt.Sprintf("nodeClaimSelector cannot be read (%s): write for example "+
				"matchLabels: {karpenter.sh/nodepool: default}, and as operator In, NotIn, Exists or DoesNotExist", err))
			continue
		}
		requirements, _ := s.Requirements()
		compiled = compiled.Add(requirements...)
	}
	return compiled, problems
}

func selectorParts(selector *metav1.LabelSelector) []*metav1.LabelSelector {
	var parts []*metav1.LabelSelector
	for _, key := range slices.Sorted(maps.Keys(selector.MatchLabels)) {
		parts = append(parts, &metav1.LabelSelector{MatchLabels: map[string]string{key: selector.MatchLabels[key]}})
	}
	for i := range selector.MatchExpressions {
		parts = append(parts, &metav1.LabelSelector{MatchExpressions: selector.MatchExpressions[i : i+1]})
	}
	return parts
}

func compileRule(rule *v1alpha1.RepairRule) (compiledRule, []string) {
	c := compiledRule{RepairRule: rule}
	var problems []string
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("rule %q: ", rule.Name)+fmt.Sprintf(format, args...))
	}
	match := rule.Match
	if len(match.Reasons) == 0 && len(match.Categories) == 0 && len(match.Sources) == 0 && match.ReasonPattern == "" {
		problem("match selects nothing: set at least one of reasons, categories, sources or reasonPattern")
	}
	if match.ReasonPattern != "" {
		pattern, err := compilePattern(match.ReasonPattern)
		if err != nil {
			problem("reasonPattern %q is no regular expression (%s): write it in RE2 syntax, for example \"NvidiaXID(48|79)Error\"",
				match.ReasonPattern, err)
		}
		c.pattern = pattern
	}
	if rule.Tolerate.Duration <= 0 {
		problem("tolerate is %s: write a duration of at least \"1s\", or action: None to never act", rule.Tolerate.Duration)
	}
	if rule.DrainBound != nil && rule.DrainBound.Duration <= 0 {
		problem("drainBound is %s: write a duration of at least \"1s\", or leave it out to honour PodDisruptionBudgets without end",
			rule.DrainBound.Duration)
	}
	switch rule.Action {
	case "", v1alpha1.ActionReplace, v1alpha1.ActionReboot, v1alpha1.ActionNone:
	default:
		problem("action %q is unknown: write Replace, Reboot or None", rule.Action)
	}
	return c, problems
}

// compilePattern anchors the pattern to the whole reason. It is compiled alone first, so that unbalanced
// parentheses cannot reach through the anchors.
func compilePattern(pattern string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

func (r compiledRule) matches(f v1alpha1.Finding) bool {
	match := r.Match
	return (len(match.Reasons) == 0 || slices.Contains(match.Reasons, f.Reason)) &&
		(len(match.Categories) == 0 || slices.Contains(match.Categories, f.Category)) &&
		(len(match.Sources) == 0 || slices.Contains(match.Sources, f.Source)) &&
		(match.ReasonPattern == "" || r.pattern.MatchString(f.Reason))
}

func (r compiledRule) action() v1alpha1.Action { return cmp.Or(r.Action, v1alpha1.ActionReplace) }
