// Package controllers lists the controllers that run beside Karpenter.
package controllers

import (
	"context"
	"time"

	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/karpenter/discovery"
	controllermetrics "github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/metrics"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/node/detection"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/node/guard"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodeclaim/conditions"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodepool/turns"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/noderepair/execution"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/noderepair/history"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/noderepair/janitor"
	policystatus "github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/repairpolicy/status"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	method "github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/events"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/metrics"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/repair"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// Controller is one loop of the manager.
type Controller interface {
	Name() string
	Register(ctx context.Context, m manager.Manager) error
}

// History is kept in these bounds; see history.NewController.
const (
	keepRepairs    = 500
	keepRepairsFor = 7 * 24 * time.Hour
)

// New lists the controllers, in the order of the way of the data.
func New(m manager.Manager, clk clock.WithTicker, found *snapshot.Discovery, series *metrics.Metrics, mappings []cluster.Mapping) []Controller {
	kubeClient, apiReader := m.GetClient(), m.GetAPIReader()
	recorder := events.NewRecorder(m.GetEventRecorder("autorepair"), clk, series.CountEvent)
	changed := make(chan event.GenericEvent, 1024)
	board := method.NewBoard(func(nodeClaim string) {
		changed <- event.GenericEvent{Object: &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: nodeClaim}}}
	})
	gatherer := snapshot.NewGatherer(clk, kubeClient, found.Karpenter, true).RebootedBy(found.RebootProviders())
	repairs := func(ctx context.Context) ([]v1alpha1.NodeRepair, error) { return snapshot.ListRepairs(ctx, apiReader) }
	unhealthy := method.NewMethod(gatherer, method.NewInKindPlanner(), board, repairs)
	executor := &repair.Executor{
		Client: kubeClient, Reader: apiReader, Clock: clk, Recorder: recorder, Snapshot: gatherer, Karpenter: found.Karpenter,
		Written: series.RepairWritten,
	}
	return []Controller{
		discovery.NewController(clk, found, series),
		detection.NewController(clk, kubeClient, recorder, mappings),
		conditions.NewController(clk, kubeClient, recorder, board, changed).LockWhere(found.ConditionsAreOneList).ObserveDetection(series.ObserveDetection),
		policystatus.NewController(clk, kubeClient, known, lo.Map(health.Reasons, func(r health.Reason, _ int) string { return r.Name })),
		guard.NewController(clk, kubeClient, found.Karpenter),
		disruption.NewController(clk, kubeClient, apiReader, unhealthy, board, gatherer.Stops, series.ObserveDecision).ObserveCommitments(series.ObserveCommitment),
		execution.NewController(kubeClient, executor),
		history.NewController(clk, kubeClient, keepRepairs, keepRepairsFor),
		janitor.NewController(clk, kubeClient, apiReader, executor),
		turns.NewController(clk, kubeClient, recorder, board),
		controllermetrics.NewController(clk, kubeClient, board, series),
	}
}

func known(reason string) bool {
	_, ok := health.Lookup(reason)
	return ok
}
