// Package cluster finds faults of a node in what the API server knows of it. Each detector is a function of objects,
// of what was found before, and of now; it states the whole current truth of its source.
package cluster

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
)

// Sources of the detectors in this package.
const (
	SourceKubelet        = "kubelet"
	SourceNodeConditions = "node-conditions"
	SourceNodeLifecycle  = "node-lifecycle"
	SourceNodeReadiness  = "node-readiness"
	SourcePods           = "pods"
	SourceRepairRequest  = "repair-request"
)

// Sources lists them all.
var Sources = []string{SourceKubelet, SourceNodeConditions, SourceNodeLifecycle, SourceNodeReadiness, SourcePods, SourceRepairRequest}

// Input is what is known of one Node at one moment. Detectors do not change it.
type Input struct {
	Now  time.Time
	Node *corev1.Node
	// NodeClaim of the Node, nil where there is none.
	NodeClaim *karpv1.NodeClaim
	// Pods of the Node; those that are not being deleted may be left out.
	Pods []corev1.Pod
	// Leases of all nodes; may be left out while the Node's Ready is not Unknown.
	Leases Leases
	// Previous is the NodeHealth as it stands, nil where there is none.
	Previous *v1alpha1.NodeHealth
}

// Result is what all detectors say about one Node.
type Result struct {
	Reports []detector.Report
	// Flips of readiness to be kept for the next time, the oldest first.
	Flips []time.Time
	// Next is the moment from which the result may differ although nothing in the API does; zero: never.
	Next time.Time
}

// Detect asks every detector. No two findings of a report have the same reason and subject.
func Detect(in Input, mappings []Mapping) Result {
	var result Result
	add := func(report detector.Report, next time.Time) {
		report.Findings = distinct(report.Findings)
		result.Reports = append(result.Reports, report)
		if !next.IsZero() && (result.Next.IsZero() || next.Before(result.Next)) {
			result.Next = next
		}
	}
	readiness, next := kubelet(in)
	add(readiness, next)
	add(nodeConditions(in, mappings), time.Time{})
	add(nodeLifecycle(in))
	flapping, flips, next := nodeReadiness(in, readiness)
	result.Flips = flips
	add(flapping, next)
	add(pods(in))
	add(repairRequest(in), time.Time{})
	return result
}

// active is the report of a source that sees everything.
func active(source string, categories ...v1alpha1.Category) detector.Report {
	return detector.Report{Source: v1alpha1.Source{Name: source, State: v1alpha1.SourceActive, Categories: categories}}
}

// since gives the start of a finding: what the NodeHealth says already, so that restarts and other messages do not
// move it; else started, where that is known and not in the future; else now.
func (in Input) since(source, reason, subject string, started time.Time) metav1.Time {
	if finding := in.previously(source, reason, subject); finding != nil {
		return finding.Since
	}
	if started.IsZero() || started.After(in.Now) {
		started = in.Now
	}
	// The API keeps whole seconds.
	return metav1.NewTime(started.UTC().Truncate(time.Second))
}

func (in Input) previously(source, reason, subject string) *v1alpha1.Finding {
	if in.Previous == nil {
		return nil
	}
	for i := range in.Previous.Findings {
		if f := &in.Previous.Findings[i]; f.Source == source && f.Reason == reason && f.Subject == subject {
			return f
		}
	}
	return nil
}

// distinct keeps the worst, then the oldest, of the findings with the same key, in the order of their keys: two
// entries with one key would make the API server refuse them all.
func distinct(findings []v1alpha1.Finding) []v1alpha1.Finding {
	slices.SortStableFunc(findings, func(a, b v1alpha1.Finding) int {
		return cmp.Or(
			cmp.Compare(a.Reason, b.Reason),
			cmp.Compare(a.Subject, b.Subject),
			cmp.Compare(a.Severity, b.Severity), // Fatal comes before Warning
			a.Since.Compare(b.Since.Time),
		)
	})
	return slices.CompactFunc(findings, func(a, b v1alpha1.Finding) bool { return a.Reason == b.Reason && a.Subject == b.Subject })
}

func conditionOf(node *corev1.Node, conditionType corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == conditionType {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}
