package ec2

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func volume(since time.Time) Impairment {
	return Impairment{Reason: health.ReasonAttachedEBSStatusImpaired, Check: "reachability", Since: since}
}

func stop(due time.Time) Impairment {
	return Impairment{Reason: health.ReasonScheduledMaintenance, Check: "instance-stop", Due: due, Detail: "The instance is running on degraded hardware"}
}

func TestFindings(t *testing.T) {
	before := func(reason, subject string, since time.Time) *v1alpha1.NodeHealth {
		return &v1alpha1.NodeHealth{Findings: []v1alpha1.Finding{{Source: Source, Reason: reason, Subject: subject, Since: metav1.NewTime(since)}}}
	}
	for sentence, row := range map[string]struct {
		impairments []Impairment
		previous    *v1alpha1.NodeHealth
		severities  []v1alpha1.Severity
		since       time.Time
		message     string
		next        time.Time
	}{
		"nothing held against it is nothing found": {},
		"an impairment is Fatal once it has stood for two minutes": {
			impairments: []Impairment{volume(noon.Add(-2 * time.Minute))}, severities: []v1alpha1.Severity{v1alpha1.SeverityFatal}, since: noon.Add(-2 * time.Minute),
			message: "The attached EBS status of i-1 is impaired: its check of reachability fails.",
		},
		"before that it is a Warning, and it is said when to look again": {
			impairments: []Impairment{volume(noon.Add(-119 * time.Second))}, severities: []v1alpha1.Severity{v1alpha1.SeverityWarning}, since: noon.Add(-119 * time.Second),
			message: "The attached EBS status of i-1 is impaired: its check of reachability fails.", next: noon.Add(time.Second),
		},
		"one that flaps begins anew each time, as EC2 says": {
			impairments: []Impairment{volume(noon.Add(-time.Minute))}, previous: before(health.ReasonAttachedEBSStatusImpaired, "reachability", noon.Add(-time.Hour)),
			severities: []v1alpha1.Severity{v1alpha1.SeverityWarning}, since: noon.Add(-time.Minute),
			message: "The attached EBS status of i-1 is impaired: its check of reachability fails.", next: noon.Add(time.Minute),
		},
		"where EC2 does not say since when, it is since it was first seen": {
			impairments: []Impairment{volume(time.Time{})}, previous: before(health.ReasonAttachedEBSStatusImpaired, "reachability", noon.Add(-time.Hour)),
			severities: []v1alpha1.Severity{v1alpha1.SeverityFatal}, since: noon.Add(-time.Hour),
			message: "The attached EBS status of i-1 is impaired: its check of reachability fails.",
		},
		"what EC2 says of the future is not believed": {
			impairments: []Impairment{volume(noon.Add(time.Hour))}, severities: []v1alpha1.Severity{v1alpha1.SeverityWarning}, since: noon,
			message: "The attached EBS status of i-1 is impaired: its check of reachability fails.", next: noon.Add(2 * time.Minute),
		},
		"maintenance has its date": {
			impairments: []Impairment{stop(noon.Add(48 * time.Hour))}, severities: []v1alpha1.Severity{v1alpha1.SeverityWarning}, since: noon,
			message: "EC2 has scheduled instance-stop of i-1, not before 2026-01-04T12:00:00Z.", next: noon.Add(2 * time.Minute),
		},
		"maintenance without a date says so": {
			impairments: []Impairment{stop(time.Time{})}, previous: before(health.ReasonScheduledMaintenance, "instance-stop", noon.Add(-time.Hour)),
			severities: []v1alpha1.Severity{v1alpha1.SeverityFatal}, since: noon.Add(-time.Hour),
			message: "EC2 has scheduled instance-stop of i-1, without a date.",
		},
		"two events of one code are one finding": {
			impairments: []Impairment{stop(noon.Add(48 * time.Hour)), stop(noon.Add(72 * time.Hour))},
			severities:  []v1alpha1.Severity{v1alpha1.SeverityWarning}, since: noon,
			message: "EC2 has scheduled instance-stop of i-1, not before 2026-01-04T12:00:00Z.", next: noon.Add(2 * time.Minute),
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			findings, next := Findings("i-1", row.impairments, row.previous, noon)
			require.Len(t, findings, len(row.severities))
			for i, severity := range row.severities {
				require.Equal(t, severity, findings[i].Severity)
				require.Equal(t, row.message, findings[i].Message)
				require.True(t, row.since.Equal(findings[i].Since.Time), "since %s, not %s", findings[i].Since, row.since)
			}
			require.True(t, row.next.Equal(next), "next %s, not %s", next, row.next)
		})
	}
}

func TestOnlyReasonsOfEC2CanBeTaken(t *testing.T) {
	for _, takes := range [][]string{nil, {"InterfaceNotUp"}, {health.ReasonAttachedEBSStatusImpaired, "Instance"}} {
		_, err := NewLister(nil, nil, takes)
		require.ErrorContains(t, err, "write some of InstanceStatusImpaired, SystemStatusImpaired, AttachedEBSStatusImpaired, ScheduledMaintenance")
	}
}
