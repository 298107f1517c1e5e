// Command karpenter-with-method is Karpenter with its kwok provider, as its own main builds it, and our Method in its
// disruption controller. It shows that the Method is a real Karpenter method: Karpenter picks the candidates, reckons the
// budgets, simulates the scheduling, and its own queue carries the commands out.
package main

import (
	"github.com/samber/lo"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/log"
	kwok "sigs.k8s.io/karpenter/kwok/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	karpcontrollers "sigs.k8s.io/karpenter/pkg/controllers"
	"sigs.k8s.io/karpenter/pkg/controllers/node/health"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/operator"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/inside"
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
	op.WithControllers(ctx, lo.Must(inside.WithMethod(ctx, inside.Karpenter{
		Manager: op.Manager, Clock: op.Clock, Recorder: op.EventRecorder, CloudProvider: provider, Cluster: cluster, Controllers: stock,
	}))...).Start(ctx)
}
