package diagnosis

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// facts states one fact for each category that somebody watches.
func facts(s sight) []Fact {
	var out []Fact
	for _, category := range health.Categories {
		if observers := s.observers(category); len(observers) > 0 {
			out = append(out, fact(category, observers, s))
		}
	}
	return out
}

func fact(category v1alpha1.Category, observers []observer, s sight) Fact {
	findings := inCategory(s.findings, category)
	var seeing, blind []observer
	for _, o := range observers {
		if o.sees() {
			seeing = append(seeing, o)
		} else {
			blind = append(blind, o)
		}
	}
	f := Fact{Category: category, Status: metav1.ConditionTrue, Reason: ReasonHealthy}
	switch {
	case len(seeing) == 0:
		f.Status, f.Reason = metav1.ConditionUnknown, blindReason(blind)
	case len(findings) > 0:
		f.Reason = findings[0].Reason
		if findings[0].Severity == v1alpha1.SeverityFatal {
			f.Status = metav1.ConditionFalse
		}
	}
	f.Message = factMessage(findings, seeing, blind, inCategory(s.lastKnown, category))
	return f
}

func factMessage(findings []v1alpha1.Finding, seeing, blind []observer, lastKnown []v1alpha1.Finding) string {
	var parts []string
	for _, finding := range findings {
		parts = append(parts, Describe(finding))
	}
	if len(findings) == 0 && len(seeing) > 0 {
		names := make([]string, 0, len(seeing))
		for _, o := range seeing {
			names = append(names, o.Name)
		}
		parts = append(parts, "nothing found by "+strings.Join(names, ", "))
	}
	for _, o := range blind {
		parts = append(parts, o.blindness())
	}
	for _, finding := range lastKnown {
		parts = append(parts, "last known: "+Describe(finding))
	}
	return strings.Join(parts, "; ")
}

func blindReason(blind []observer) string {
	for _, o := range blind {
		if o.silent {
			return ReasonSourceSilent
		}
	}
	return ReasonSourceUnavailable
}

func inCategory(findings []v1alpha1.Finding, category v1alpha1.Category) []v1alpha1.Finding {
	var out []v1alpha1.Finding
	for _, finding := range findings {
		if finding.Category == category {
			out = append(out, finding)
		}
	}
	return out
}
