// Command karpenter-aws is Karpenter for AWS with our Method in its disruption controller. It takes the place of the
// image of Karpenter's own controller: flags, environment, role and chart are Karpenter's.
package main

import (
	"context"

	awsv1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	awscloudprovider "github.com/aws/karpenter-provider-aws/pkg/cloudprovider"
	"github.com/aws/karpenter-provider-aws/pkg/cloudprovider/registrationhooks"
	awscontrollers "github.com/aws/karpenter-provider-aws/pkg/controllers"
	awsoperator "github.com/aws/karpenter-provider-aws/pkg/operator"
	awsoptions "github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/awslabs/operatorpkg/controller"
	"github.com/samber/lo"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/metrics"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	karpcontrollers "sigs.k8s.io/karpenter/pkg/controllers"
	"sigs.k8s.io/karpenter/pkg/controllers/node/health"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	"sigs.k8s.io/karpenter/pkg/operator"
	"sigs.k8s.io/karpenter/pkg/operator/options"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/inside"
)

// unsetVersion is what Karpenter's version is where the linker has not set it.
const unsetVersion = "unspecified"

func main() {
	lo.Must0(v1alpha1.AddToScheme(scheme.Scheme))
	// Karpenter's makefile has the linker set it; its log and its calls of EC2 name it.
	if operator.Version == unsetVersion {
		operator.Version = inside.VersionOf("github.com/aws/karpenter-provider-aws")
	}
	ctx, op := awsoperator.NewOperator(operator.NewOperator())
	if options.FromContext(ctx).FeatureGates.ReservedCapacity {
		awsv1.CapacityReservationsEnabled = true
	}
	// What an overlay changes is a matter of scheduling; its own controller has to see what is beneath.
	plain := metrics.Decorate(newCloudProvider(ctx, op))
	provider := overlay.Decorate(plain, op.GetClient(), op.InstanceTypeStore)
	matcher := lo.Must(health.NewRepairPolicyMatcher(ctx, provider))
	cluster := state.NewCluster(op.Clock, op.GetClient(), provider, state.WithRepairPolicyMatcher(matcher))
	stock := karpcontrollers.NewControllers(ctx, op.Manager, op.Clock, op.GetClient(), op.EventRecorder, provider, plain, cluster,
		op.InstanceTypeStore, op.PredictionStore,
		karpcontrollers.WithRegistrationHook(registrationhooks.NewPlacementGroupRegistrationHook(op.InstanceProvider)))
	withMethod := lo.Must(inside.WithMethod(ctx, inside.Karpenter{
		Manager: op.Manager, Clock: op.Clock, Recorder: op.EventRecorder, CloudProvider: provider, Cluster: cluster, Controllers: stock,
	}))
	op.WithControllers(ctx, withMethod...).
		WithControllers(ctx, ofProvider(ctx, op, provider)...).
		Start(ctx)
}

func newCloudProvider(ctx context.Context, op *awsoperator.Operator) cloudprovider.CloudProvider {
	return awscloudprovider.New(op.InstanceTypesProvider, op.InstanceProvider, op.EventRecorder, op.GetClient(), op.AMIProvider,
		op.SecurityGroupProvider, op.CapacityReservationProvider, op.PlacementGroupProvider, op.InstanceTypeStore, op.CABundle,
		awscloudprovider.WithLegacyRepairPolicies(options.FromContext(ctx).LegacyNodeRepair),
		awscloudprovider.WithRebootForRepair(awsoptions.FromContext(ctx).FeatureGates.RebootForRepair))
}

// ofProvider are the controllers that the provider runs beside those of Karpenter's core.
func ofProvider(ctx context.Context, op *awsoperator.Operator, provider cloudprovider.CloudProvider) []controller.Controller {
	return awscontrollers.NewControllers(ctx, op.Manager, op.Config, op.Clock, op.EC2API, op.GetClient(), op.EventRecorder,
		op.UnavailableOfferingsCache, op.SSMCache, op.ValidationCache, op.RecreationCache, provider, op.SubnetProvider,
		op.SecurityGroupProvider, op.InstanceProfileProvider, op.InstanceProvider, op.PricingProvider, op.AMIProvider,
		op.LaunchTemplateProvider, op.VersionProvider, op.InstanceTypesProvider, op.CapacityReservationProvider,
		op.PlacementGroupProvider, op.AMIResolver, op.ZonalShiftProvider, op.InstanceStatusProvider, op.CABundle, op.CELEnvironment)
}
