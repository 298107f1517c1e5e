// Package controllers lists the controllers that run beside Karpenter.
package controllers

import (
	"context"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/karpenter/discovery"
	controllermetrics "github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/metrics"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/node/guard"
	method "github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// Controller is one loop of the manager.
type Controller interface {
	Name() string
	Register(ctx context.Context, m manager.Manager) error
}

// New lists the controllers, in the order of the way of the data.
func New(m manager.Manager, clk clock.WithTicker, found *snapshot.Discovery, series *metrics.Metrics) []Controller {
	kubeClient, apiReader := m.GetClient(), m.GetAPIReader()
	board := method.NewBoard(nil)
	gatherer := snapshot.NewGatherer(clk, kubeClient, found.Karpenter, true)
	repairs := func(ctx context.Context) ([]v1alpha1.NodeRepair, error) { return snapshot.ListRepairs(ctx, apiReader) }
	repair := method.NewMethod(gatherer, method.NewInKindPlanner(), board, repairs)
	return []Controller{
		discovery.NewController(clk, found, series),
		guard.NewController(clk, kubeClient, found.Karpenter),
		disruption.NewController(clk, kubeClient, apiReader, repair, board, series.ObserveDecision),
		controllermetrics.NewController(clk, kubeClient, board, series),
	}
}
