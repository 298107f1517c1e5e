package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestALookIsCountedWithWhatItFoundAndLost(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	m.looked("kernel-log", time.Second, true, 0, nil)
	require.Zero(t, testutil.ToFloat64(m.lost.WithLabelValues("kernel-log")), "it begins at zero, so that the first loss is an increase")
	m.looked("kernel-log", time.Second, true, 7, []v1alpha1.Finding{{Severity: v1alpha1.SeverityFatal}})
	m.looked("kernel-log", time.Second, false, 0, nil)
	require.EqualValues(t, 7, testutil.ToFloat64(m.lost.WithLabelValues("kernel-log")))
	require.EqualValues(t, 2, testutil.ToFloat64(m.looks.WithLabelValues("kernel-log", "true")))
	require.EqualValues(t, 1, testutil.ToFloat64(m.looks.WithLabelValues("kernel-log", "false")))
	require.Zero(t, testutil.ToFloat64(m.findings.WithLabelValues("kernel-log", "Fatal")))
	m.forget("kernel-log")
	require.Zero(t, testutil.CollectAndCount(m.lost), "a detector that is switched off has no series")
}

func TestTheTimeOfTheLastWriteMovesWithSuccessAlone(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	require.Zero(t, testutil.ToFloat64(m.written))
	m.wrote(time.Unix(100, 5e8), nil)
	m.wrote(time.Unix(200, 0), errors.New("no"))
	require.InDelta(t, 100.5, testutil.ToFloat64(m.written), 0.001)
	require.EqualValues(t, 1, testutil.ToFloat64(m.writes.WithLabelValues("error")))
}
