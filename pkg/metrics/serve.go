package metrics

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// ownPrefixes are the series of the shared registry that speak of this process and not of Karpenter.
var ownPrefixes = []string{"controller_runtime_", "workqueue_", "rest_client_", "leader_election_"}

// Handler serves our series, and those of shared that speak of this process.
func (m *Metrics) Handler(shared prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers{m.registry, onlyOwn{shared}}, promhttp.HandlerOpts{})
}

// onlyOwn leaves out whatever Karpenter's packages have registered.
type onlyOwn struct{ prometheus.Gatherer }

// Gather gives the families that speak of this process.
func (o onlyOwn) Gather() ([]*dto.MetricFamily, error) {
	families, err := o.Gatherer.Gather()
	return slices.DeleteFunc(families, func(family *dto.MetricFamily) bool {
		return !slices.ContainsFunc(ownPrefixes, func(prefix string) bool { return strings.HasPrefix(family.GetName(), prefix) })
	}), err
}
