package cluster

import (
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// newNode gives a Node that has been Ready for an hour and Initialized, with further conditions.
func newNode(conditions ...corev1.NodeCondition) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: "node", UID: "node-uid", CreationTimestamp: ago(time.Hour),
		Labels: map[string]string{karpv1.NodeRegisteredLabelKey: "true", karpv1.NodeInitializedLabelKey: "true"},
	}}
	node.Status.Conditions = []corev1.NodeCondition{condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", time.Hour)}
	for _, c := range conditions {
		if c.Type == corev1.NodeReady {
			node.Status.Conditions[0] = c
			continue
		}
		node.Status.Conditions = append(node.Status.Conditions, c)
	}
	return node
}

func condition(conditionType corev1.NodeConditionType, state corev1.ConditionStatus, reason string, age time.Duration) corev1.NodeCondition {
	return corev1.NodeCondition{Type: conditionType, Status: state, Reason: reason, Message: "said so", LastTransitionTime: ago(age), LastHeartbeatTime: ago(0)}
}

func newClaim(conditions ...status.Condition) *karpv1.NodeClaim {
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim"}}
	claim.Status.NodeName = "node"
	claim.Status.Conditions = conditions
	return claim
}

func claimIs(conditionType string, state metav1.ConditionStatus, age time.Duration) status.Condition {
	return status.Condition{Type: conditionType, Status: state, Reason: "Reason", Message: "why", LastTransitionTime: ago(age)}
}

// standing gives a NodeHealth as an earlier result left it.
func standing(result Result) *v1alpha1.NodeHealth {
	health := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{FlipsAnnotation: FormatFlips(result.Flips)}}}
	for _, report := range result.Reports {
		health.Sources = append(health.Sources, report.Source)
		health.Findings = append(health.Findings, report.Findings...)
	}
	return health
}

func detect(t *testing.T, in Input) Result {
	t.Helper()
	mappings, err := DefaultNodeConditions()
	require.NoError(t, err)
	if in.Now.IsZero() {
		in.Now = now
	}
	if in.Node == nil {
		in.Node = newNode()
	}
	return Detect(in, mappings)
}

func report(t *testing.T, result Result, source string) detector.Report {
	t.Helper()
	for _, r := range result.Reports {
		if r.Source.Name == source {
			return r
		}
	}
	t.Fatalf("there is no report of %s", source)
	return detector.Report{}
}

// named are reason and subject of all findings, in the order of the reports.
func named(result Result) []string {
	out := []string{}
	for _, r := range result.Reports {
		for _, f := range r.Findings {
			name := f.Reason
			if f.Subject != "" {
				name += " " + f.Subject
			}
			out = append(out, name)
		}
	}
	return out
}

func TestAHealthyNodeHasAllSourcesAndNoFinding(t *testing.T) {
	result := detect(t, Input{})
	var sources []string
	for _, r := range result.Reports {
		sources = append(sources, r.Source.Name)
		require.Equal(t, v1alpha1.SourceActive, r.Source.State, r.Source.Name)
	}
	require.Equal(t, Sources, sources)
	require.Empty(t, named(result))
	require.Zero(t, result.Next)
}

func TestSince(t *testing.T) {
	previous := func(age time.Duration) *v1alpha1.NodeHealth {
		return &v1alpha1.NodeHealth{Findings: []v1alpha1.Finding{{Source: "s", Reason: "R", Subject: "x", Since: ago(age)}}}
	}
	for name, test := range map[string]struct {
		previous *v1alpha1.NodeHealth
		started  time.Time
		want     metav1.Time
	}{
		"a known start counts":                              {started: now.Add(-time.Minute), want: ago(time.Minute)},
		"a start that is not known is now":                  {want: ago(0)},
		"a start in the future is now":                      {started: now.Add(time.Minute), want: ago(0)},
		"what stands already counts":                        {previous: previous(time.Hour), started: now.Add(-time.Minute), want: ago(time.Hour)},
		"a finding of another source says nothing about it": {previous: &v1alpha1.NodeHealth{Findings: []v1alpha1.Finding{{Source: "other", Reason: "R", Subject: "x", Since: ago(time.Hour)}}}, want: ago(0)},
		"nor does one of another subject":                   {previous: &v1alpha1.NodeHealth{Findings: []v1alpha1.Finding{{Source: "s", Reason: "R", Subject: "y", Since: ago(time.Hour)}}}, want: ago(0)},
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, test.want.Equal(new(Input{Now: now, Previous: test.previous}.since("s", "R", "x", test.started))))
		})
	}
}

func TestTheSameKeyIsStatedOnce(t *testing.T) {
	request := map[string]string{v1alpha1.RepairRequestAnnotation: "Replace"}
	node, claim := newNode(), newClaim()
	node.Annotations, claim.Annotations = request, request
	require.Equal(t, []string{"RepairRequested Replace"}, named(detect(t, Input{Node: node, NodeClaim: claim})))

	got := distinct([]v1alpha1.Finding{
		{Reason: "R", Severity: v1alpha1.SeverityWarning, Since: ago(time.Hour)},
		{Reason: "R", Severity: v1alpha1.SeverityFatal, Since: ago(time.Minute)},
		{Reason: "R", Severity: v1alpha1.SeverityFatal, Since: ago(time.Second)},
		{Reason: "R", Subject: "x", Severity: v1alpha1.SeverityWarning},
	})
	require.Len(t, got, 2)
	require.Equal(t, v1alpha1.SeverityFatal, got[0].Severity)
	require.Equal(t, ago(time.Minute), got[0].Since)
}
