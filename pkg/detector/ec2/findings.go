package ec2

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Source is the name of the source in a NodeHealth.
const Source = "ec2"

// Confirm is how long an impairment has to stand before it is Fatal: EC2's checks run every minute, and Karpenter's own
// code waits for 120 s.
const Confirm = 2 * time.Minute

// maxEvidence is what the API takes of a line of evidence, in characters.
const maxEvidence = 512

// Findings says what the impairments of an instance mean. They begin when EC2 says so, else when previous says so, else
// now; previous is nil where there is none. An impairment that comes back begins anew. Next is the moment from which the
// findings differ though the impairments do not; zero: never.
func Findings(instance string, impairments []Impairment, previous *v1alpha1.NodeHealth, now time.Time) (findings []v1alpha1.Finding, next time.Time) {
	for _, one := range impairments {
		finding := v1alpha1.Finding{
			Source: Source, Reason: one.Reason, Subject: one.Check, Category: v1alpha1.CategoryInstance, Severity: v1alpha1.SeverityFatal,
			Since: since(one, previous, now), Count: 1,
			Message: health.Shorten(sentence(instance, one), health.MaxMessage), Evidence: evidence(one),
		}
		if confirmed := finding.Since.Add(Confirm); confirmed.After(now) {
			finding.Severity = v1alpha1.SeverityWarning
			if next.IsZero() || confirmed.Before(next) {
				next = confirmed
			}
		}
		findings = append(findings, finding)
	}
	return distinct(findings), next
}

func since(one Impairment, previous *v1alpha1.NodeHealth, now time.Time) metav1.Time {
	start := one.Since
	if start.IsZero() && previous != nil {
		for _, f := range previous.Findings {
			if f.Source == Source && f.Reason == one.Reason && f.Subject == one.Check {
				start = f.Since.Time
			}
		}
	}
	if start.IsZero() || start.After(now) {
		start = now
	}
	return metav1.NewTime(start.UTC().Truncate(time.Second)) // the API keeps whole seconds
}

func sentence(instance string, one Impairment) string {
	switch {
	case one.Reason != health.ReasonScheduledMaintenance:
		return fmt.Sprintf("The %s of %s is impaired: its check of %s fails.", checked[one.Reason], instance, one.Check)
	case one.Due.IsZero():
		return fmt.Sprintf("EC2 has scheduled %s of %s, without a date.", one.Check, instance)
	default:
		return fmt.Sprintf("EC2 has scheduled %s of %s, not before %s.", one.Check, instance, one.Due.UTC().Format(time.RFC3339))
	}
}

var checked = map[string]string{
	health.ReasonInstanceStatusImpaired:    "instance status",
	health.ReasonSystemStatusImpaired:      "system status",
	health.ReasonAttachedEBSStatusImpaired: "attached EBS status",
}

func evidence(one Impairment) []string {
	switch {
	case one.Detail != "":
		return []string{health.Shorten(one.Detail, maxEvidence)}
	case !one.Since.IsZero():
		return []string{fmt.Sprintf("%s: failed, impaired since %s", one.Check, one.Since.UTC().Format(time.RFC3339))}
	}
	return nil
}

// distinct keeps the oldest of the findings with the same key, in the order of their keys: EC2 may schedule two events
// of one code, and two entries with one key would make the API server refuse them all.
func distinct(findings []v1alpha1.Finding) []v1alpha1.Finding {
	slices.SortStableFunc(findings, func(a, b v1alpha1.Finding) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Subject, b.Subject), a.Since.Compare(b.Since.Time))
	})
	return slices.CompactFunc(findings, func(a, b v1alpha1.Finding) bool { return a.Reason == b.Reason && a.Subject == b.Subject })
}
