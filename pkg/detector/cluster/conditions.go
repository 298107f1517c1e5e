package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// maxConditionFindings bounds what the conditions of one Node can become.
const maxConditionFindings = 64

// nodeConditions finds what other agents state in conditions of the Node. It tells about a category only where one of
// its mapped conditions is True or False: a condition that is absent or Unknown says neither sick nor healthy.
func nodeConditions(in Input, mappings []Mapping) detector.Report {
	report := active(SourceNodeConditions)
	seen := map[v1alpha1.Category]bool{}
	for i := range in.Node.Status.Conditions {
		condition := &in.Node.Status.Conditions[i]
		fitted := false
		for j := range mappings {
			if mappings[j].ConditionType != condition.Type {
				continue
			}
			if condition.Status != corev1.ConditionUnknown {
				seen[mappings[j].Finding.Category] = true
			}
			if !fitted && mappings[j].fits(condition) {
				fitted = true
				seen[mappings[j].Finding.Category] = true
				report.Findings = append(report.Findings, conditionFindings(in, condition, mappings[j].Finding)...)
			}
		}
	}
	report.Findings = report.Findings[:min(len(report.Findings), maxConditionFindings)]
	for _, category := range health.Categories {
		if seen[category] {
			report.Source.Categories = append(report.Source.Categories, category)
		}
	}
	return report
}

func conditionFindings(in Input, condition *corev1.NodeCondition, mapped MappingFinding) []v1alpha1.Finding {
	message := mapped.Message
	if message == "" {
		message = condition.Message
	}
	reasons := findingReasons(condition, mapped)
	findings := make([]v1alpha1.Finding, 0, len(reasons))
	for _, reason := range reasons {
		findings = append(findings, v1alpha1.Finding{
			Source:   SourceNodeConditions,
			Reason:   reason,
			Category: mapped.Category,
			Severity: mapped.Severity,
			Since:    conditionSince(in, condition, reason, reasons),
			Message:  health.Shorten(message, health.MaxMessage),
			Evidence: []string{health.Shorten(fmt.Sprintf("%s%s, reason %s", evidenceOf(condition.Type), condition.Status, condition.Reason), 512)},
		})
	}
	return findings
}

// findingReasons takes the condition's reason apart where several faults are glued into it:
//
//	ForkFailedOutOfPIDs;KernelBug
func findingReasons(condition *corev1.NodeCondition, mapped MappingFinding) []string {
	if mapped.Reason != "" {
		return []string{mapped.Reason}
	}
	var reasons []string
	for _, part := range strings.FieldsFunc(condition.Reason, func(r rune) bool { return r == ';' || r == ',' || r == ' ' }) {
		if isReason(part) && !slices.Contains(reasons, part) {
			reasons = append(reasons, part)
		}
	}
	if len(reasons) == 0 {
		// The type of a condition may hold a domain, which the reason of a finding may not.
		name := string(condition.Type)
		name = name[strings.LastIndex(name, "/")+1:]
		if !isReason(name) {
			name = "NodeCondition"
		}
		reasons = []string{name}
	}
	return reasons
}

// conditionSince gives each fault a start of its own. Agents move the transition time of a condition, or do not, when
// its reason changes. A reason that takes the place of another continues the same episode, so that reasons that take
// turns do not put a repair off for ever; one that joins others is a new fault.
func conditionSince(in Input, condition *corev1.NodeCondition, reason string, reasons []string) metav1.Time {
	transition := condition.LastTransitionTime.Time
	if in.previously(SourceNodeConditions, reason, "") != nil {
		return in.since(SourceNodeConditions, reason, "", transition)
	}
	var earliest time.Time
	known, replaced := false, false
	for _, finding := range previousOf(in.Previous, condition.Type) {
		known = true
		replaced = replaced || !slices.Contains(reasons, finding.Reason)
		if earliest.IsZero() || finding.Since.Time.Before(earliest) {
			earliest = finding.Since.Time
		}
	}
	switch {
	case replaced:
		return in.since(SourceNodeConditions, reason, "", earliest)
	case known:
		return in.since(SourceNodeConditions, reason, "", in.Now)
	default:
		return in.since(SourceNodeConditions, reason, "", transition)
	}
}

// previousOf gives what was found in one condition before.
func previousOf(previous *v1alpha1.NodeHealth, conditionType corev1.NodeConditionType) []v1alpha1.Finding {
	if previous == nil {
		return nil
	}
	var out []v1alpha1.Finding
	for _, finding := range previous.Findings {
		if finding.Source == SourceNodeConditions && len(finding.Evidence) > 0 && strings.HasPrefix(finding.Evidence[0], evidenceOf(conditionType)) {
			out = append(out, finding)
		}
	}
	return out
}

func evidenceOf(conditionType corev1.NodeConditionType) string {
	return fmt.Sprintf("condition %s=", conditionType)
}
