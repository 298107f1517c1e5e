package metrics

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Unix(100000, 0)

func TestCountSaysWhatHoldsNow(t *testing.T) {
	heard := metav1.NewTime(now.Add(-time.Hour))
	health := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Findings: []v1alpha1.Finding{
		{Source: "a", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal},
		{Source: "b", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal},
		{Source: "a", Reason: "SomethingOfTheirOwn", Category: v1alpha1.CategoryStorage, Severity: v1alpha1.SeverityWarning},
	}, Sources: []v1alpha1.Source{{Name: "a", State: v1alpha1.SourceActive}, {Name: "b", State: v1alpha1.SourceUnavailable}}}
	silent := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: "silent"}, Sources: []v1alpha1.Source{
		{Name: "a", State: v1alpha1.SourceActive, LastHeartbeat: &heard, HeartbeatInterval: &metav1.Duration{Duration: time.Minute}},
	}}
	committed := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "new", CreationTimestamp: metav1.NewTime(now.Add(-time.Minute))}}
	older := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "older", CreationTimestamp: metav1.NewTime(now.Add(-2 * time.Minute))}}
	done := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "done"}, Status: v1alpha1.NodeRepairStatus{Phase: v1alpha1.PhaseSucceeded}}
	pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "stop"}}
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool", Annotations: map[string]string{v1alpha1.PauseAnnotation: "true"}}}
	ended := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "ended", Annotations: map[string]string{v1alpha1.PauseAnnotation: "1970-01-01T00:00:00Z"}}}
	vetoed := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Annotations: map[string]string{v1alpha1.VetoAnnotation: "true"}}}
	kubeClient := fakeapi.Builder().WithObjects(health, silent, committed, older, done, pause, pool, ended, vetoed).Build()
	board := disruption.NewBoard(nil)
	unhealthy := diagnosis.Verdict{Unhealthy: true, Deciding: &diagnosis.Judgement{EligibleAt: time.Unix(500, 0)}}
	board.Publish(decision.Result{Decisions: []decision.Decision{{
		Node:     decision.Node{NodeClaimUID: "a", NodePool: "pool", Verdict: unhealthy},
		Blockers: []decision.Blocker{{Reason: decision.BlockerBudget}, {Reason: decision.BlockerPods}},
	}, {
		Node:     decision.Node{NodeClaimUID: "b", NodePool: "pool"},
		Blockers: []decision.Blocker{{Reason: decision.BlockerBudget}, {Reason: decision.BlockerTolerating}},
	}}, Suspects: []decision.Suspect{
		{Kind: "zone", Name: "z", Nodes: 10, Sick: 4, Width: 2},
		{Kind: "image", Name: "i", Nodes: 9, Sick: 3, Width: 1, PausedUntil: now.Add(time.Minute)},
	}})
	series := metrics.New()
	controller := NewController(clocktesting.NewFakeClock(now), kubeClient, board, series)
	require.NoError(t, controller.Count(context.Background()))
	body := serve(series)
	for _, line := range []string{
		`autorepair_findings{category="Kernel",reason="KernelDeadlock",severity="Fatal"} 2`,
		`autorepair_findings{category="Storage",reason="Other",severity="Warning"} 1`,
		`autorepair_nodes{sight="Active"} 0`,
		`autorepair_nodes{sight="Unavailable"} 1`,
		`autorepair_nodes{sight="Silent"} 1`,
		`autorepair_nodeclaims_unhealthy{nodepool="pool"} 1`,
		`autorepair_nodeclaims_blocked{reason="DisruptionBudget"} 2`,
		`autorepair_nodeclaims_blocked{reason="PodsNotDisruptable"} 1`,
		`autorepair_blocked_since_timestamp_seconds{reason="DisruptionBudget"} 500`,
		`autorepair_repairs_active{phase="Committed"} 2`,
		`autorepair_repairs_active_since_timestamp_seconds{phase="Committed"} 99880`,
		`autorepair_suspect_domains{kind="nodepool"} 0`,
		`autorepair_suspect_domains{kind="zone"} 1`,
		`autorepair_domain_width{domain="z",kind="zone"} 2`,
		`autorepair_domain_width{domain="i",kind="image"} 0`,
		`autorepair_domain_sick_nodes{domain="z",kind="zone"} 4`,
		`autorepair_domain_nodes{domain="z",kind="zone"} 10`,
		`autorepair_paused{kind="RepairPause"} 1`,
		`autorepair_paused{kind="RepairPolicy"} 0`,
		`autorepair_paused{kind="NodePool"} 1`,
		`autorepair_paused{kind="Node"} 1`,
		`autorepair_repairs_total{action="Replace",nodepool="pool",outcome="Failed"} 0`,
	} {
		require.Contains(t, body, line+"\n")
	}
	require.NotContains(t, body, `blocked_since_timestamp_seconds{reason="Tolerating"}`, "what is tolerated waits for nobody")
	require.NotContains(t, body, `phase="Succeeded"`)

	board.Publish(decision.Result{})
	require.NoError(t, kubeClient.Delete(context.Background(), health))
	require.NoError(t, kubeClient.Delete(context.Background(), pause))
	require.NoError(t, controller.Count(context.Background()))
	body = serve(series)
	require.NotContains(t, body, "autorepair_findings{", "what has gone is not counted on")
	require.NotContains(t, body, "autorepair_nodeclaims_blocked{")
	require.NotContains(t, body, "autorepair_domain_width{")
	require.Contains(t, body, `autorepair_suspect_domains{kind="zone"} 0`)
	require.Contains(t, body, `autorepair_paused{kind="RepairPause"} 0`)
}

func TestAStormNamesFiftyDomainsAndCountsAll(t *testing.T) {
	board := disruption.NewBoard(nil)
	var suspects []decision.Suspect
	for i := range 200 {
		suspects = append(suspects, decision.Suspect{Kind: "instance-type", Name: fmt.Sprint("type-", i), Sick: i})
	}
	board.Publish(decision.Result{Suspects: suspects})
	series := metrics.New()
	require.NoError(t, NewController(clocktesting.NewFakeClock(now), fakeapi.Builder().Build(), board, series).Count(context.Background()))
	body := serve(series)
	require.Contains(t, body, `autorepair_suspect_domains{kind="instance-type"} 200`)
	require.Equal(t, 50, strings.Count(body, "\nautorepair_domain_width{"))
	require.Contains(t, body, `autorepair_domain_width{domain="type-199",kind="instance-type"}`, "the sickest are named")
}

func serve(series *metrics.Metrics) string {
	recorder := httptest.NewRecorder()
	series.Handler(prometheus.NewRegistry()).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	return recorder.Body.String()
}
