package diagnosis

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

var start = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time       { return start.Add(d) }
func metaAt(d time.Duration) metav1.Time { return metav1.NewTime(at(d)) }

// agentSource watches networking and hardware, and beats every five minutes.
func agentSource(lastHeartbeat time.Duration) v1alpha1.Source {
	beat := metaAt(lastHeartbeat)
	return v1alpha1.Source{
		Name: "agent", State: v1alpha1.SourceActive,
		Categories:        []v1alpha1.Category{v1alpha1.CategoryNetworking, v1alpha1.CategoryAcceleratedHardware},
		LastHeartbeat:     &beat,
		HeartbeatInterval: &metav1.Duration{Duration: 5 * time.Minute},
	}
}

// clusterSource runs in the controller and never falls silent.
func clusterSource(categories ...v1alpha1.Category) v1alpha1.Source {
	return v1alpha1.Source{Name: "cluster", State: v1alpha1.SourceActive, Categories: categories}
}

type findingOption func(*v1alpha1.Finding)

func finding(reason string, since time.Duration, options ...findingOption) v1alpha1.Finding {
	f := v1alpha1.Finding{
		Source: "cluster", Reason: reason, Category: v1alpha1.CategoryNetworking,
		Severity: v1alpha1.SeverityFatal, Since: metaAt(since),
	}
	for _, option := range options {
		option(&f)
	}
	return f
}

func of(source string) findingOption { return func(f *v1alpha1.Finding) { f.Source = source } }
func about(subject string) findingOption {
	return func(f *v1alpha1.Finding) { f.Subject = subject }
}
func in(category v1alpha1.Category) findingOption {
	return func(f *v1alpha1.Finding) { f.Category = category }
}
func warning(f *v1alpha1.Finding)         { f.Severity = v1alpha1.SeverityWarning }
func saying(message string) findingOption { return func(f *v1alpha1.Finding) { f.Message = message } }
func stating(sources []v1alpha1.Source, findings ...v1alpha1.Finding) *v1alpha1.NodeHealth {
	return &v1alpha1.NodeHealth{Sources: sources, Findings: findings}
}

func rule(name string, match v1alpha1.FindingMatch, tolerate time.Duration, options ...func(*v1alpha1.RepairRule)) v1alpha1.RepairRule {
	r := v1alpha1.RepairRule{Name: name, Match: match, Tolerate: metav1.Duration{Duration: tolerate}, Action: v1alpha1.ActionReplace}
	for _, option := range options {
		option(&r)
	}
	return r
}

func acting(action v1alpha1.Action) func(*v1alpha1.RepairRule) {
	return func(r *v1alpha1.RepairRule) { r.Action = action }
}

func ranked(priority int32) func(*v1alpha1.RepairRule) {
	return func(r *v1alpha1.RepairRule) { r.Priority = priority }
}

func reasons(names ...string) v1alpha1.FindingMatch { return v1alpha1.FindingMatch{Reasons: names} }
func pattern(p string) v1alpha1.FindingMatch        { return v1alpha1.FindingMatch{ReasonPattern: p} }

func policy(name string, rules ...v1alpha1.RepairRule) v1alpha1.RepairPolicy {
	return v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.RepairPolicySpec{Rules: rules}}
}

func weighing(p v1alpha1.RepairPolicy, weight int32) v1alpha1.RepairPolicy {
	p.Spec.Weight = weight
	return p
}

func selecting(p v1alpha1.RepairPolicy, selector metav1.LabelSelector) v1alpha1.RepairPolicy {
	p.Spec.NodeClaimSelector = &selector
	return p
}
