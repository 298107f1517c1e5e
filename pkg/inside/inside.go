// Package inside puts our Method into a build of Karpenter: Karpenter picks the candidates, reckons the budgets and
// simulates the scheduling, and its own queue carries the commands out. The main of a build makes its Karpenter as the
// provider's own main does, and starts what this package makes of it.
package inside

import (
	"context"
	"errors"
	"fmt"

	"github.com/awslabs/operatorpkg/controller"
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	karpevents "sigs.k8s.io/karpenter/pkg/events"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/node/detection"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/node/guard"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodeclaim/conditions"
	policystatus "github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/repairpolicy/status"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	detector "github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// Karpenter is what the main of a build has made of Karpenter.
type Karpenter struct {
	Manager  manager.Manager
	Clock    clock.Clock
	Recorder karpevents.Recorder
	// CloudProvider and Cluster are the ones that Controllers were made with.
	CloudProvider cloudprovider.CloudProvider
	Cluster       *state.Cluster
	// Controllers as NewControllers of Karpenter's pkg/controllers gives them.
	Controllers []controller.Controller
}

// WithMethod gives Karpenter's controllers, with our Method before the methods of its disruption controller, and those
// of ours that find out what is wrong with nodes and say it. ctx carries Karpenter's options. The error says what this
// Karpenter lacks.
func WithMethod(ctx context.Context, k Karpenter) ([]controller.Controller, error) {
	provisioner, found := find[*provisioning.Provisioner](k.Controllers)
	queue, foundQueue := find[*karpdisruption.Queue](k.Controllers)
	if !found || !foundQueue {
		return nil, errors.New("karpenter's controllers hold no provisioner or no disruption queue")
	}
	self := func() decision.Karpenter { return thisKarpenter(ctx) }
	changed := make(chan event.GenericEvent, 1024)
	board := disruption.NewBoard(func(nodeClaim string) {
		changed <- event.GenericEvent{Object: &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: nodeClaim}}}
	})
	kubeClient := k.Manager.GetClient()
	gatherer := snapshot.NewGatherer(k.Clock, kubeClient, self, true)
	planner := disruption.NewSimulationPlanner(k.Clock, kubeClient, k.Recorder, k.Cluster, provisioner)
	// There are no NodeRepairs: Karpenter's queue is what is at work.
	rebooter := rebooter{client: kubeClient, reader: k.Manager.GetAPIReader(), clock: k.Clock}
	method := disruption.NewMethod(gatherer, planner, board, nil).RebootBy(rebooter.reboot)
	methods := append([]karpdisruption.Method{method},
		karpdisruption.NewMethods(ctx, k.Clock, k.Cluster, kubeClient, provisioner, k.CloudProvider, k.Recorder, queue)...)
	kept := lo.Reject(k.Controllers, func(c controller.Controller, _ int) bool {
		_, ok := c.(*karpdisruption.Controller)
		return ok
	})
	// The cluster cost that Karpenter's informers keep is out of reach; without one it is summed up anew.
	kept = append(kept, karpdisruption.NewController(ctx, k.Clock, kubeClient, provisioner, k.CloudProvider, k.Recorder, k.Cluster, queue,
		nil, karpdisruption.WithMethods(methods...)))
	ours, err := explaining(k, self, board, changed)
	return append(kept, ours...), err
}

// explaining are our controllers in the same process: they find out what is wrong, say it on the NodeClaims, and keep
// Karpenter's own repair, where it is on, off what is ours.
func explaining(k Karpenter, self func() decision.Karpenter, board *disruption.Board, changed chan event.GenericEvent) ([]controller.Controller, error) {
	mappings, err := detector.LoadNodeConditions("")
	if err != nil {
		return nil, fmt.Errorf("reading the node conditions, %w", err)
	}
	kubeClient, recorder := k.Manager.GetClient(), k.Manager.GetEventRecorder("autorepair")
	known := func(reason string) bool { _, ok := health.Lookup(reason); return ok }
	reasons := lo.Map(health.Reasons, func(r health.Reason, _ int) string { return r.Name })
	return []controller.Controller{
		detection.NewController(k.Clock, kubeClient, recorder, mappings),
		conditions.NewController(k.Clock, kubeClient, recorder, board, changed),
		policystatus.NewController(k.Clock, kubeClient, known, reasons),
		guard.NewController(k.Clock, kubeClient, self),
	}, nil
}

func find[T any](controllers []controller.Controller) (T, bool) {
	for _, c := range controllers {
		if found, ok := c.(T); ok {
			return found, true
		}
	}
	var none T
	return none, false
}
