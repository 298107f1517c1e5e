package agent

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
)

// Metrics of the agent.
type Metrics struct {
	*metrics.Table

	duration   *prometheus.HistogramVec
	looks      *prometheus.CounterVec
	findings   *prometheus.GaugeVec
	lost       *prometheus.CounterVec
	writes     *prometheus.CounterVec
	written    *prometheus.GaugeVec
	config     *prometheus.GaugeVec
	stateError *prometheus.CounterVec
}

// NewMetrics makes the series and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	t := metrics.NewTable(registry)
	detector := metrics.Label{Name: "detector", Values: "name of the source"}
	m := &Metrics{
		Table: t,
		duration: t.Histogram("autorepair_agent_look_duration_seconds", "How long the looks of a detector take.",
			[]float64{0.001, 0.01, 0.1, 1, 10, 30}, detector),
		looks: t.Counter("autorepair_agent_looks_total", "Looks of a detector, by whether it could see.", detector,
			metrics.Label{Name: "success", Values: "true or false"}),
		findings: t.Gauge("autorepair_agent_findings", "Findings that hold now.", detector, metrics.Label{Name: "severity", Values: "Fatal or Warning"}),
		lost:     t.Counter("autorepair_agent_lost_records_total", "Log records that were lost before they could be read.", detector),
		writes: t.Counter("autorepair_agent_nodehealth_writes_total", "Writes of the NodeHealth, by result.",
			metrics.Label{Name: "result", Values: "success or error"}),
		written:    t.Gauge("autorepair_agent_nodehealth_written_timestamp_seconds", "When the API server last took a write of the NodeHealth; 0 before the first."),
		config:     t.Gauge("autorepair_agent_config_rejected", "1 while the configuration file holds a mistake and the one before is in force."),
		stateError: t.Counter("autorepair_agent_state_write_errors_total", "Writes of the state on disk that did not succeed."),
	}
	// From the first scrape on, so that the first failure is an increase.
	for _, result := range []string{"success", "error"} {
		m.writes.WithLabelValues(result)
	}
	m.written.WithLabelValues().Set(0)
	m.config.WithLabelValues().Set(0)
	m.stateError.WithLabelValues()
	return m
}

// wrote counts a write of the NodeHealth; err is what the API server had against it.
func (m *Metrics) wrote(at time.Time, err error) {
	if err != nil {
		m.writes.WithLabelValues("error").Inc()
		return
	}
	m.writes.WithLabelValues("success").Inc()
	m.written.WithLabelValues().Set(float64(at.UnixMilli()) / 1000)
}

// looked counts a look, what it found, and how many records were lost before it could read them.
func (m *Metrics) looked(detector string, took time.Duration, success bool, lost int64, findings []v1alpha1.Finding) {
	m.lost.WithLabelValues(detector).Add(float64(max(lost, 0)))
	m.duration.WithLabelValues(detector).Observe(took.Seconds())
	m.looks.WithLabelValues(detector, strconv.FormatBool(!success)).Add(0) // so that the first of its kind is an increase
	m.looks.WithLabelValues(detector, strconv.FormatBool(success)).Inc()
	count := map[v1alpha1.Severity]float64{}
	for _, f := range findings {
		count[f.Severity]++
	}
	for _, severity := range []v1alpha1.Severity{v1alpha1.SeverityFatal, v1alpha1.SeverityWarning} {
		m.findings.WithLabelValues(detector, string(severity)).Set(count[severity])
	}
}

// forget ends the series of a detector that is no longer there.
func (m *Metrics) forget(detector string) {
	labels := prometheus.Labels{"detector": detector}
	m.duration.DeletePartialMatch(labels)
	m.looks.DeletePartialMatch(labels)
	m.findings.DeletePartialMatch(labels)
	m.lost.DeletePartialMatch(labels)
}
