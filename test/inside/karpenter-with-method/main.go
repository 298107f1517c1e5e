// Command inside is Karpenter with its kwok provider, as its own main builds it, and our Method in its disruption
// controller. It shows that the Method is a real Karpenter method: Karpenter picks the candidates, reckons the budgets,
// simulates the scheduling, and its own queue carries the commands out.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/awslabs/operatorpkg/controller"
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	kwok "sigs.k8s.io/karpenter/kwok/cloudprovider"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	karpcontrollers "sigs.k8s.io/karpenter/pkg/controllers"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/node/health"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/operator"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/node/detection"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodeclaim/conditions"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	detector "github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

func main() {
	lo.Must0(v1alpha1.AddToScheme(scheme.Scheme))
	ctx, op := operator.NewOperator()
	instanceTypes, err := kwok.ConstructInstanceTypes(ctx)
	if err != nil {
		log.FromContext(ctx).Error(err, "constructing instance types")
	}
	undecorated := kwok.NewCloudProvider(ctx, op.GetClient(), instanceTypes)
	provider := overlay.Decorate(undecorated, op.GetClient(), op.InstanceTypeStore)
	matcher := lo.Must(health.NewRepairPolicyMatcher(ctx, provider))
	cluster := state.NewCluster(op.Clock, op.GetClient(), provider, state.WithRepairPolicyMatcher(matcher))
	stock := karpcontrollers.NewControllers(ctx, op.Manager, op.Clock, op.GetClient(), op.EventRecorder, provider, undecorated, cluster,
		op.InstanceTypeStore, op.PredictionStore)
	changed := make(chan event.GenericEvent, 1024)
	board := disruption.NewBoard(func(nodeClaim string) {
		changed <- event.GenericEvent{Object: &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: nodeClaim}}}
	})
	op.WithControllers(ctx, lo.Must(withMethod(ctx, op, provider, cluster, stock, board))...).
		WithControllers(ctx, lo.Must(explaining(op, board, changed))...).
		Start(ctx)
}

// withMethod puts a disruption controller that knows our Method in the place of Karpenter's.
func withMethod(ctx context.Context, op *operator.Operator, provider cloudprovider.CloudProvider, cluster *state.Cluster,
	stock []controller.Controller, board *disruption.Board,
) ([]controller.Controller, error) {
	provisioner, found := find[*provisioning.Provisioner](stock)
	queue, foundQueue := find[*karpdisruption.Queue](stock)
	if !found || !foundQueue {
		return nil, errors.New("karpenter's controllers hold no provisioner or no disruption queue")
	}
	gatherer := snapshot.NewGatherer(op.Clock, op.GetClient(), func() decision.Karpenter {
		return decision.Karpenter{Version: "1.15.0", HonoursDoNotRepair: true}
	}, false)
	planner := disruption.NewSimulationPlanner(op.Clock, op.GetClient(), op.EventRecorder, cluster, provisioner)
	// There are no NodeRepairs: Karpenter's queue is what is at work.
	method := disruption.NewMethod(gatherer, planner, board, nil)
	methods := append([]karpdisruption.Method{method},
		karpdisruption.NewMethods(ctx, op.Clock, cluster, op.GetClient(), provisioner, provider, op.EventRecorder, queue)...)
	kept := lo.Reject(stock, func(c controller.Controller, _ int) bool {
		_, ok := c.(*karpdisruption.Controller)
		return ok
	})
	// The cluster cost that Karpenter's informers keep is out of reach; without one it is summed up anew.
	return append(kept, karpdisruption.NewController(ctx, op.Clock, op.GetClient(), provisioner, provider, op.EventRecorder, cluster, queue,
		nil, karpdisruption.WithMethods(methods...))), nil
}

// explaining are our controllers that find out what is wrong and say it on the NodeClaims, in the same process.
func explaining(op *operator.Operator, board *disruption.Board, changed chan event.GenericEvent) ([]controller.Controller, error) {
	mappings, err := detector.LoadNodeConditions("")
	if err != nil {
		return nil, fmt.Errorf("reading the node conditions, %w", err)
	}
	recorder := op.GetEventRecorder("autorepair")
	return []controller.Controller{
		detection.NewController(op.Clock, op.GetClient(), recorder, mappings),
		conditions.NewController(op.Clock, op.GetClient(), recorder, board, changed),
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
