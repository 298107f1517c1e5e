package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// value of a gauge or a counter.
func value(t *testing.T, metric prometheus.Metric) float64 {
	t.Helper()
	got := &dto.Metric{}
	require.NoError(t, metric.Write(got))
	if got.Gauge != nil {
		return got.Gauge.GetValue()
	}
	return got.Counter.GetValue()
}

func TestALookIsCountedWithWhatItFoundAndLost(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	m.looked("kernel-log", time.Second, true, 0, nil)
	require.Zero(t, value(t, m.lost.WithLabelValues("kernel-log")), "it begins at zero, so that the first loss is an increase")
	m.looked("kernel-log", time.Second, true, 7, []v1alpha1.Finding{{Severity: v1alpha1.SeverityFatal}})
	m.looked("kernel-log", time.Second, false, 0, nil)
	require.EqualValues(t, 7, value(t, m.lost.WithLabelValues("kernel-log")))
	require.EqualValues(t, 2, value(t, m.looks.WithLabelValues("kernel-log", "true")))
	require.EqualValues(t, 1, value(t, m.looks.WithLabelValues("kernel-log", "false")))
	require.Zero(t, value(t, m.findings.WithLabelValues("kernel-log", "Fatal")))
	m.forget("kernel-log")
	left := make(chan prometheus.Metric, 10)
	m.lost.Collect(left)
	require.Empty(t, left, "a detector that is switched off has no series")
}

func TestTheTimeOfTheLastWriteMovesWithSuccessAlone(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	require.Zero(t, value(t, m.written.WithLabelValues()))
	m.wrote(time.Unix(100, 5e8), nil)
	m.wrote(time.Unix(200, 0), errors.New("no"))
	require.InDelta(t, 100.5, value(t, m.written.WithLabelValues()), 0.001)
	require.EqualValues(t, 1, value(t, m.writes.WithLabelValues("error")))
}
