// Command inside is Karpenter with its kwok provider, as its own main builds it, and our Method in its disruption
// controller. It shows that the Method is a real Karpenter method: Karpenter picks the candidates, reckons the budgets,
// simulates the scheduling, and its own queue carries the commands out.
package main

import (
	"context"
	"errors"

	"github.com/samber/lo"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/log"
	kwok "sigs.k8s.io/karpenter/kwok/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	karpcontrollers "sigs.k8s.io/karpenter/pkg/controllers"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/node/health"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/operator"

	"github.com/awslabs/operatorpkg/controller"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
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
	op.WithControllers(ctx, lo.Must(withMethod(ctx, op, provider, cluster, stock))...).
		Start(ctx)
}

// withMethod puts a disruption controller that knows our Method in the place of Karpenter's.
func withMethod(ctx context.Context, op *operator.Operator, provider cloudprovider.CloudProvider, cluster *state.Cluster,
	stock []controller.Controller,
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
	method := disruption.NewMethod(gatherer, planner, disruption.NewBoard(nil), nil)
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

func find[T any](controllers []controller.Controller) (T, bool) {
	for _, c := range controllers {
		if found, ok := c.(T); ok {
			return found, true
		}
	}
	var none T
	return none, false
}
