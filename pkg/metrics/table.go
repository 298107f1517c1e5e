package metrics

//go:generate go test ../../test/prometheus -run TestReferences -update

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Label of a series: its name, and in words what its values are.
type Label struct{ Name, Values string }

// Series is what the documentation says of one family of series.
type Series struct {
	Name, Type, Help string
	Labels           []Label
}

// Table makes series, registers them, and remembers what they are: docs/metrics.md is made from it, so that a series
// cannot be served without being documented.
type Table struct {
	registry prometheus.Registerer
	series   []Series
}

// NewTable makes an empty table whose series go into the registry.
func NewTable(registry prometheus.Registerer) *Table { return &Table{registry: registry} }

// Series that were made, by name.
func (t *Table) Series() []Series {
	return slices.SortedFunc(slices.Values(t.series), func(a, b Series) int { return cmp.Compare(a.Name, b.Name) })
}

// Gauge makes a gauge.
func (t *Table) Gauge(name, help string, labels ...Label) *prometheus.GaugeVec {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, t.add(name, "gauge", help, labels))
	t.registry.MustRegister(vec)
	return vec
}

// Counter makes a counter.
func (t *Table) Counter(name, help string, labels ...Label) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, t.add(name, "counter", help, labels))
	t.registry.MustRegister(vec)
	return vec
}

// Histogram makes a histogram with the upper bounds of its buckets.
func (t *Table) Histogram(name, help string, buckets []float64, labels ...Label) *prometheus.HistogramVec {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, t.add(name, "histogram", help, labels))
	t.registry.MustRegister(vec)
	return vec
}

func (t *Table) add(name, kind, help string, labels []Label) []string {
	t.series = append(t.series, Series{Name: name, Type: kind, Help: help, Labels: labels})
	names := make([]string, 0, len(labels))
	for _, label := range labels {
		names = append(names, label.Name)
	}
	return names
}
