// Package metrics holds the series that the controller serves. They live in a registry of their own: Karpenter's
// packages put karpenter_* series into the shared one, and to serve those twice would double every dashboard.
package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

const namespace = "autorepair"

// Metrics are all series of ours. Their labels are bounded: enumerations of the API, and names of NodePools.
type Metrics struct {
	registry *prometheus.Registry

	// Findings by category and severity.
	Findings *prometheus.GaugeVec
	// Unhealthy NodeClaims, whose toleration has passed, by NodePool.
	Unhealthy *prometheus.GaugeVec
	// Blocked counts sick nodes by each gate that is closed for them.
	Blocked *prometheus.GaugeVec
	// RepairsActive by phase.
	RepairsActive *prometheus.GaugeVec
	// Repairs that have finished, by outcome and action.
	Repairs *prometheus.CounterVec
	// PhaseDuration of repairs, by the condition that ends the phase.
	PhaseDuration *prometheus.HistogramVec
	// DecisionDuration is how long a pass takes, from gathering to commands.
	DecisionDuration prometheus.Histogram

	karpenter *prometheus.GaugeVec
}

// New makes the series and registers them.
func New() *Metrics {
	m := &Metrics{
		registry:      prometheus.NewRegistry(),
		Findings:      gauge("findings", "Findings that hold now.", "category", "severity"),
		Unhealthy:     gauge("nodeclaims_unhealthy", "NodeClaims with a Fatal finding whose toleration has passed.", "nodepool"),
		Blocked:       gauge("nodeclaims_blocked", "Sick NodeClaims for which a gate is closed; one with several counts for each.", "reason"),
		RepairsActive: gauge("repairs_active", "Unfinished NodeRepairs.", "phase"),
		karpenter:     gauge("karpenter_info", "The Karpenter beside the controller; always 1.", "version", "own_repair", "own_repair_assumed", "honours_do_not_repair"),
		Repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "repairs_total", Help: "NodeRepairs that have finished.",
		}, []string{"outcome", "action"}),
		PhaseDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "repair_phase_duration_seconds", Help: "Time until a condition of a NodeRepair became True, from the one before it.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}, []string{"condition", "action"}),
		DecisionDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "decision_duration_seconds", Help: "Time that one pass over all sick nodes takes.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
	m.registry.MustRegister(m.Findings, m.Unhealthy, m.Blocked, m.RepairsActive, m.karpenter, m.Repairs, m.PhaseDuration, m.DecisionDuration,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// SetKarpenter says which Karpenter runs beside us.
func (m *Metrics) SetKarpenter(version string, ownRepair, assumed, honoursDoNotRepair bool) {
	m.karpenter.Reset()
	m.karpenter.WithLabelValues(version, strconv.FormatBool(ownRepair), strconv.FormatBool(assumed), strconv.FormatBool(honoursDoNotRepair)).Set(1)
}

// ObserveDecision records how long a pass took.
func (m *Metrics) ObserveDecision(took time.Duration) { m.DecisionDuration.Observe(took.Seconds()) }
