package fakeaws

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	awsv1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	awscache "github.com/aws/karpenter-provider-aws/pkg/cache"
	"github.com/aws/karpenter-provider-aws/pkg/cel"
	awsoptions "github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/arczonalshift"
	"github.com/aws/karpenter-provider-aws/pkg/providers/capacityreservation"
	awsinstance "github.com/aws/karpenter-provider-aws/pkg/providers/instance"
	awsinstancetype "github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/aws/karpenter-provider-aws/pkg/providers/launchtemplate"
	"github.com/aws/karpenter-provider-aws/pkg/providers/placementgroup"
	"github.com/aws/karpenter-provider-aws/pkg/providers/pricing"
	awssecuritygroup "github.com/aws/karpenter-provider-aws/pkg/providers/securitygroup"
	awssubnet "github.com/aws/karpenter-provider-aws/pkg/providers/subnet"
	"github.com/patrickmn/go-cache"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/operator/options"

	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

// providers are those of Karpenter for AWS that launch and end, put together as its operator does.
func providers(ctx context.Context, t *testing.T, c aws.Config) (*awsinstancetype.DefaultProvider, *awsinstance.DefaultProvider) {
	t.Helper()
	client, clk, kept := ec2.NewFromConfig(c), clock.RealClock{}, func() *cache.Cache { return cache.New(cache.NoExpiration, 0) }
	subnets := awssubnet.NewDefaultProvider(client, kept(), kept())
	prices := pricing.NewDefaultProvider(pricing.NewAPI(c), client, c.Region, false)
	reservations := capacityreservation.NewProvider(client, clk, kept(), kept())
	placement := placementgroup.NewProvider(client, kept(), kept())
	expressions, err := cel.NewEnvironment()
	require.NoError(t, err)
	unavailable, shifts := awscache.NewUnavailableOfferings(), arczonalshift.NewNoopProvider()
	types := awsinstancetype.NewDefaultProvider(kept(), kept(), kept(), client, subnets, prices, reservations, placement, unavailable,
		awsinstancetype.NewDefaultResolver(c.Region, expressions), shifts, fakeapi.Builder().Build(), expressions)
	require.NoError(t, types.UpdateInstanceTypes(ctx))
	require.NoError(t, types.UpdateInstanceTypeOfferings(ctx))
	images := amifamily.NewDefaultResolver(c.Region, func(string) (amifamily.ENILimits, bool) { return amifamily.ENILimits{}, false }, expressions)
	templates := launchtemplate.NewDefaultProvider(ctx, kept(), client, nil, images, awssecuritygroup.NewDefaultProvider(client, kept()), subnets,
		placement, lo.ToPtr(""), make(chan struct{}), net.ParseIP("10.96.0.10"), "https://cluster.example")
	return types, awsinstance.NewDefaultProvider(ctx, c.Region, events.NewRecorder(&record.FakeRecorder{}), client, unavailable, subnets,
		templates, reservations, placement, shifts, kept())
}

func TestKarpentersOwnProvidersLaunchAndEnd(t *testing.T) {
	fake, c := begin(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = awsoptions.ToContext(options.ToContext(ctx, &options.Options{}), &awsoptions.Options{ClusterName: "mine", VMMemoryOverheadPercent: 0.075})
	types, instances := providers(ctx, t, c)
	class := &awsv1.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: awsv1.EC2NodeClassSpec{
		AMIFamily: lo.ToPtr(awsv1.AMIFamilyCustom), SubnetSelectorTerms: []awsv1.SubnetSelectorTerm{{ID: SubnetA}},
	}}
	class.Status.Subnets = []awsv1.Subnet{{ID: SubnetA, Zone: "us-east-1a", ZoneID: "use1-az1"}}
	class.Status.SecurityGroups = []awsv1.SecurityGroup{{ID: SecurityGroup}}
	class.Status.AMIs = []awsv1.AMI{{ID: Image, Requirements: []corev1.NodeSelectorRequirement{{Key: corev1.LabelArchStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"amd64"}}}}}
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{karpv1.NodePoolLabelKey: "pool"}}}
	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{{Key: karpv1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: []string{karpv1.CapacityTypeOnDemand}}}

	offered, err := types.List(ctx, class)
	require.NoError(t, err)
	require.Len(t, offered, len(offers))
	made, err := instances.Create(ctx, class, claim, map[string]string{awsv1.EKSClusterNameTagKey: "mine"}, offered)
	require.NoError(t, err)
	require.Equal(t, "c5.large us-east-1a "+Image, string(made.Type)+" "+made.Zone+" "+made.ImageID)
	found, err := instances.Get(ctx, made.ID, awsinstance.SkipCache)
	require.NoError(t, err)
	require.Equal(t, []string{SecurityGroup}, found.SecurityGroupIDs)
	require.Equal(t, "mine", found.Tags[awsv1.EKSClusterNameTagKey])

	require.NoError(t, instances.Reboot(ctx, made.ID, "1"))
	require.NoError(t, instances.Delete(ctx, made.ID))
	require.Eventually(t, func() bool {
		return cloudprovider.IsNodeClaimNotFoundError(instances.Delete(ctx, made.ID))
	}, 20*time.Second, 200*time.Millisecond, "once it has ended it is not found")
	require.Equal(t, []string{"ec2:CreateFleet", "ec2:RebootInstances", "ec2:TerminateInstances"}, lo.Map(fake.Changes(), func(c Change, _ int) string { return c.Action }))
	require.Empty(t, fake.Unknown())
}
