package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Metrics of the agent.
type Metrics struct {
	duration   *prometheus.HistogramVec
	looks      *prometheus.CounterVec
	findings   *prometheus.GaugeVec
	lost       *prometheus.CounterVec
	writes     *prometheus.CounterVec
	config     prometheus.Gauge
	stateError prometheus.Counter
}

// NewMetrics makes the series and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "autorepair_agent_look_duration_seconds", Help: "How long the looks of a detector take.",
			Buckets: []float64{0.001, 0.01, 0.1, 1, 10, 30},
		}, []string{"detector"}),
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autorepair_agent_looks_total", Help: "Looks of a detector, by whether it could see.",
		}, []string{"detector", "success"}),
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "autorepair_agent_findings", Help: "Findings that hold now.",
		}, []string{"detector", "severity"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autorepair_agent_lost_records_total", Help: "Log records that were lost before they could be read.",
		}, []string{"detector"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autorepair_agent_nodehealth_writes_total", Help: "Writes of the NodeHealth, by result.",
		}, []string{"result"}),
		config: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autorepair_agent_config_rejected", Help: "1 while the configuration file holds a mistake and the one before is in force.",
		}),
		stateError: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autorepair_agent_state_write_errors_total", Help: "Writes of the state on disk that did not succeed.",
		}),
	}
	registry.MustRegister(m.duration, m.looks, m.findings, m.lost, m.writes, m.config, m.stateError)
	return m
}

// looked counts a look, and what it found.
func (m *Metrics) looked(detector string, took time.Duration, success bool, findings []v1alpha1.Finding) {
	m.duration.WithLabelValues(detector).Observe(took.Seconds())
	m.looks.WithLabelValues(detector, map[bool]string{true: "true", false: "false"}[success]).Inc()
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
