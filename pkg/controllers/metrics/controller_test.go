package metrics

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
)

func TestCountSaysWhatHoldsNow(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	health := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Findings: []v1alpha1.Finding{
		{Source: "a", Reason: "A", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal},
		{Source: "a", Reason: "B", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal},
		{Source: "a", Reason: "C", Category: v1alpha1.CategoryStorage, Severity: v1alpha1.SeverityWarning},
	}}
	committed := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "new"}}
	done := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: "done"}, Status: v1alpha1.NodeRepairStatus{Phase: v1alpha1.PhaseSucceeded}}
	kubeClient := fake.NewClientBuilder().WithScheme(scheme).WithObjects(health, committed, done).Build()
	board := disruption.NewBoard(nil)
	board.Publish(decision.Result{Decisions: []decision.Decision{{
		Node:     decision.Node{NodeClaimUID: "a", NodePool: "pool", Verdict: diagnosis.Verdict{Unhealthy: true}},
		Blockers: []decision.Blocker{{Reason: decision.BlockerBudget}, {Reason: decision.BlockerPods}},
	}, {
		Node:     decision.Node{NodeClaimUID: "b", NodePool: "pool"},
		Blockers: []decision.Blocker{{Reason: decision.BlockerBudget}},
	}}})
	series := metrics.New()
	controller := NewController(clocktesting.NewFakeClock(time.Unix(0, 0)), kubeClient, board, series)
	require.NoError(t, controller.Count(context.Background()))
	body := serve(series)
	for _, line := range []string{
		`autorepair_findings{category="Kernel",severity="Fatal"} 2`,
		`autorepair_findings{category="Storage",severity="Warning"} 1`,
		`autorepair_nodeclaims_unhealthy{nodepool="pool"} 1`,
		`autorepair_nodeclaims_blocked{reason="DisruptionBudget"} 2`,
		`autorepair_nodeclaims_blocked{reason="PodsNotDisruptable"} 1`,
		`autorepair_repairs_active{phase="Committed"} 1`,
	} {
		require.Contains(t, body, line)
	}
	require.NotContains(t, body, "Succeeded")

	board.Publish(decision.Result{})
	require.NoError(t, kubeClient.Delete(context.Background(), health))
	require.NoError(t, controller.Count(context.Background()))
	require.NotContains(t, serve(series), "autorepair_findings{", "what has gone is not counted on")
	require.NotContains(t, serve(series), "autorepair_nodeclaims_blocked{")
}

func TestAFinishedRepairIsCountedWithItsPhases(t *testing.T) {
	created := time.Unix(1000, 0)
	at := func(conditionType string, after time.Duration) metav1.Condition {
		return metav1.Condition{Type: conditionType, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(created.Add(after))}
	}
	series := metrics.New()
	(&Controller{metrics: series}).finished(&v1alpha1.NodeRepair{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(created)},
		Spec:       v1alpha1.NodeRepairSpec{Action: v1alpha1.ActionReplace},
		Status: v1alpha1.NodeRepairStatus{Phase: v1alpha1.PhaseFailed, Conditions: []metav1.Condition{
			at(v1alpha1.RepairConditionFenced, 2*time.Second), at(v1alpha1.RepairConditionProvisioned, 32*time.Second),
			{Type: v1alpha1.RepairConditionTerminated, Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(created.Add(time.Hour))},
		}},
	})
	body := serve(series)
	require.Contains(t, body, `autorepair_repairs_total{action="Replace",outcome="Failed"} 1`)
	require.Contains(t, body, `autorepair_repair_phase_duration_seconds_sum{action="Replace",condition="Fenced"} 2`)
	require.Contains(t, body, `autorepair_repair_phase_duration_seconds_sum{action="Replace",condition="Provisioned"} 30`)
	require.NotContains(t, body, `condition="Terminated"`)
}

func serve(series *metrics.Metrics) string {
	recorder := httptest.NewRecorder()
	series.Handler(prometheus.NewRegistry()).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	return recorder.Body.String()
}
