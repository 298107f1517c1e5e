// Package metrics holds the series that the controller serves. They live in a registry of their own: Karpenter's
// packages put karpenter_* series into the shared one, and to serve those twice would double every dashboard.
//
// Gauges say what the API server holds now, and are set anew by each count. Counters and histograms move when a write
// of ours has landed, never when something is merely seen, so that a restart or a change of the leader counts nothing
// twice; what lands in the moment of a crash may stay uncounted.
package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Metrics are all series of ours. Their labels are bounded: enumerations of the API, reasons of the catalogue, names of
// NodePools, and names of the few domains that are suspect.
type Metrics struct {
	*Table
	registry *prometheus.Registry

	gauges
	times

	repairs      *prometheus.CounterVec
	falseRepairs *prometheus.CounterVec
	withdrawn    *prometheus.CounterVec
	events       *prometheus.CounterVec
	eventsLeft   *prometheus.CounterVec
}

// gauges are set anew by each count.
type gauges struct {
	// Leading is 1 in the replica that acts.
	Leading *prometheus.GaugeVec
	// Nodes by how well their sources see.
	Nodes *prometheus.GaugeVec
	// Findings by category, severity and reason.
	Findings *prometheus.GaugeVec
	// Unhealthy NodeClaims, whose toleration has passed, by NodePool.
	Unhealthy *prometheus.GaugeVec
	// Blocked counts sick nodes by each gate that is closed for them; BlockedSince is the earliest end of a toleration
	// among them, in seconds since 1970.
	Blocked, BlockedSince *prometheus.GaugeVec
	// RepairsActive by phase; RepairsActiveSince is the earliest creation among them, in seconds since 1970.
	RepairsActive, RepairsActiveSince *prometheus.GaugeVec
	// SuspectDomains by kind; DomainSick, DomainNodes and DomainWidth of each of them.
	SuspectDomains, DomainSick, DomainNodes, DomainWidth *prometheus.GaugeVec
	// Paused objects by kind.
	Paused *prometheus.GaugeVec

	karpenter *prometheus.GaugeVec
}

// times are how long things take.
type times struct {
	detect, decide, replace, phase, decision *prometheus.HistogramVec
}

var (
	nodePool = Label{"nodepool", "name of the NodePool; empty for NodeClaims without one"}
	category = Label{"category", "part of the node: Kernel, Networking, Storage, ContainerRuntime, AcceleratedHardware, Kubelet, Instance (and Request, of findings)"}
	action   = Label{"action", "Replace or Reboot"}
	blocker  = Label{"reason", "the gate that is closed, as the reason of RepairBlocked"}
	phase    = Label{"phase", "phase of the NodeRepair"}
	kind     = Label{"kind", "nodepool, zone, instance-type or image"}
	domain   = Label{"domain", "name of the NodePool, zone, instance type or image; the sickest 50 only"}
	reason   = Label{"reason", "reason of the event, as docs/events.md lists them"}
)

// New makes the series and registers them.
func New() *Metrics {
	registry := prometheus.NewRegistry()
	t := NewTable(registry)
	m := &Metrics{
		Table: t, registry: registry, gauges: newGauges(t), times: newTimes(t),
		repairs: t.Counter("autorepair_repairs_total", "NodeRepairs that have ended.", nodePool,
			Label{"outcome", "Succeeded, Failed, Canceled or Yielded"}, action),
		falseRepairs: t.Counter("autorepair_false_repairs_total",
			"Repairs that have ended with a replacement that showed the same cause as the node before it: the node was not what is broken.", nodePool, category),
		withdrawn: t.Counter("autorepair_launches_withdrawn_total", "Replacements that were given up.", nodePool,
			Label{"stage", "how far the replacement had come: Launching, Initializing, or Standing"}),
		events:     t.Counter("autorepair_events_total", "Events handed to the API server; identical ones within six minutes are one series of events there.", reason),
		eventsLeft: t.Counter("autorepair_events_dropped_total", "Events left out, since too many of the same reason came at once.", reason),
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Leading.WithLabelValues().Set(0)
	m.times.begin()
	return m
}

// begin lets every histogram begin at zero: of one that first shows itself with an observation Prometheus would see no
// increase.
func (t *times) begin() {
	t.decision.WithLabelValues()
	for _, of := range health.Categories {
		t.detect.WithLabelValues(string(of))
	}
	for _, of := range []v1alpha1.Action{v1alpha1.ActionReplace, v1alpha1.ActionReboot} {
		t.decide.WithLabelValues(string(of))
		t.replace.WithLabelValues(string(of))
		for _, phase := range phaseEnds {
			t.phase.WithLabelValues(phase, string(of))
		}
	}
}

func newGauges(t *Table) gauges {
	return gauges{
		Leading: t.Gauge("autorepair_leading", "1 in the replica that acts, 0 in those that stand by."),
		Nodes: t.Gauge("autorepair_nodes", "Nodes with a NodeHealth, each counted once, by the worst of its sources.",
			Label{"sight", "Active, Degraded, Unavailable (a source cannot see) or Silent (heartbeats are missing)"}),
		Findings: t.Gauge("autorepair_findings", "Findings that hold now.", category, Label{"severity", "Fatal or Warning"},
			Label{"reason", "reason of the catalogue; Other for those that the catalogue does not have"}),
		Unhealthy: t.Gauge("autorepair_nodeclaims_unhealthy", "NodeClaims with a Fatal finding whose toleration has passed.", nodePool),
		Blocked:   t.Gauge("autorepair_nodeclaims_blocked", "Sick NodeClaims for which a gate is closed; one with several counts for each.", blocker),
		BlockedSince: t.Gauge("autorepair_blocked_since_timestamp_seconds",
			"When the toleration of the NodeClaim ended that has waited longest behind the gate; unhealthy ones only.", blocker),
		RepairsActive:      t.Gauge("autorepair_repairs_active", "Unfinished NodeRepairs.", phase),
		RepairsActiveSince: t.Gauge("autorepair_repairs_active_since_timestamp_seconds", "When the oldest unfinished NodeRepair in the phase was made.", phase),
		SuspectDomains:     t.Gauge("autorepair_suspect_domains", "Domains with so many sick nodes that the fault is taken for one that they share.", kind),
		DomainSick:         t.Gauge("autorepair_domain_sick_nodes", "Sick nodes of a suspect domain.", kind, domain),
		DomainNodes:        t.Gauge("autorepair_domain_nodes", "Nodes of a suspect domain.", kind, domain),
		DomainWidth:        t.Gauge("autorepair_domain_width", "Repairs that a suspect domain may have at work; 0 while it pauses after a failure.", kind, domain),
		Paused: t.Gauge("autorepair_paused", "Stops that hold now.",
			Label{"kind", "RepairPause (everything), RepairPolicy (mode Paused), NodePool, or Node (a veto)"}),
		karpenter: t.Gauge("autorepair_karpenter_info", "The Karpenter beside the controller; always 1.", Label{"version", "as found out, or as told by --karpenter-version"},
			Label{"own_repair", "whether its feature gate NodeRepair is on"}, Label{"own_repair_assumed", "whether that is a guess"},
			Label{"honours_do_not_repair", "whether it heeds karpenter.sh/do-not-repair"}),
	}
}

func newTimes(t *Table) times {
	return times{
		detect: t.Histogram("autorepair_time_to_detect_seconds",
			"From the start of a finding until the NodeClaim's condition was written False, the time that a fault has to stand included.",
			prometheus.ExponentialBuckets(0.125, 2, 16), category),
		decide: t.Histogram("autorepair_time_to_decide_seconds",
			"From the end of the toleration until the NodeRepair was made, the time that budgets and other gates held it back included.",
			prometheus.ExponentialBuckets(0.25, 2, 18), action),
		replace: t.Histogram("autorepair_time_to_replace_seconds", "From the making of the NodeRepair until the sick node was gone, or had been rebooted.",
			prometheus.ExponentialBuckets(2, 2, 14), action),
		phase: t.Histogram("autorepair_repair_phase_duration_seconds", "Time until a condition of a NodeRepair became True, from the one before it; told at its end.",
			prometheus.ExponentialBuckets(1, 2, 13), Label{"condition", "the condition that ended the phase: Fenced, Provisioned, Terminated, Rebooted, Released, Verified"}, action),
		decision: t.Histogram("autorepair_decision_duration_seconds", "Time that one pass over all sick nodes takes.",
			prometheus.ExponentialBuckets(0.001, 2, 14)),
	}
}

// SetKarpenter says which Karpenter runs beside us.
func (m *Metrics) SetKarpenter(version string, ownRepair, assumed, honoursDoNotRepair bool) {
	m.karpenter.Reset()
	m.karpenter.WithLabelValues(version, strconv.FormatBool(ownRepair), strconv.FormatBool(assumed), strconv.FormatBool(honoursDoNotRepair)).Set(1)
}

// ObserveDecision records how long a pass took.
func (m *Metrics) ObserveDecision(took time.Duration) {
	m.decision.WithLabelValues().Observe(took.Seconds())
}

// ObserveDetection records how long it took from the start of a fault until its NodeClaim's condition said so.
func (m *Metrics) ObserveDetection(of v1alpha1.Category, took time.Duration) {
	m.detect.WithLabelValues(string(of)).Observe(max(took.Seconds(), 0))
}

// ObserveCommitment records how long it took from the end of a toleration until a repair was committed to.
func (m *Metrics) ObserveCommitment(of v1alpha1.Action, took time.Duration) {
	m.decide.WithLabelValues(string(of)).Observe(max(took.Seconds(), 0))
}

// CountEvent counts an event that was handed on, or left out.
func (m *Metrics) CountEvent(of string, handedOn bool) {
	if handedOn {
		m.events.WithLabelValues(of).Inc()
		return
	}
	m.eventsLeft.WithLabelValues(of).Inc()
}
