package metrics

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestOnlyOurOwnSeriesAreServed(t *testing.T) {
	shared := prometheus.NewRegistry()
	for _, name := range []string{"karpenter_nodes_count", "operator_status_condition_count", "controller_runtime_reconcile_total", "workqueue_depth"} {
		gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: name})
		shared.MustRegister(gauge)
	}
	series := New()
	series.ObserveDecision(time.Second)
	series.Findings.WithLabelValues("Kernel", "Fatal", "KernelDeadlock").Set(3)
	recorder := httptest.NewRecorder()
	series.Handler(shared).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	body := recorder.Body.String()
	require.Equal(t, 200, recorder.Code)
	require.Contains(t, body, `autorepair_findings{category="Kernel",reason="KernelDeadlock",severity="Fatal"} 3`)
	require.Contains(t, body, "autorepair_decision_duration_seconds_count 1")
	require.Contains(t, body, "controller_runtime_reconcile_total")
	require.Contains(t, body, "workqueue_depth")
	require.Contains(t, body, "go_goroutines")
	require.NotContains(t, body, "karpenter_nodes_count")
	require.NotContains(t, body, "operator_status_condition_count")
}

func TestKarpenterInfoHoldsOneKarpenter(t *testing.T) {
	series := New()
	series.SetKarpenter("1.14.0", true, false, false)
	series.SetKarpenter("1.15.0", false, false, true)
	recorder := httptest.NewRecorder()
	series.Handler(prometheus.NewRegistry()).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	require.Contains(t, recorder.Body.String(), `version="1.15.0"`)
	require.NotContains(t, recorder.Body.String(), `version="1.14.0"`)
}
