package fakeaws

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	awsv1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	awserrors "github.com/aws/karpenter-provider-aws/pkg/errors"
	"github.com/aws/karpenter-provider-aws/pkg/providers/pricing"
	awssubnet "github.com/aws/karpenter-provider-aws/pkg/providers/subnet"
	"github.com/patrickmn/go-cache"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// begin gives an endpoint, and the SDK as a process with its environment has it.
func begin(t *testing.T) (*AWS, aws.Config) {
	t.Helper()
	fake := New()
	t.Cleanup(fake.Close)
	for _, variable := range fake.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	c, err := config.LoadDefaultConfig(context.Background(), config.WithRetryMaxAttempts(1))
	require.NoError(t, err)
	return fake, c
}

func TestAnInstanceIsLaunchedDescribedTaggedRebootedAndEnded(t *testing.T) {
	fake, c := begin(t)
	ctx, client := context.Background(), ec2.NewFromConfig(c)
	_, err := client.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("mine/1"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{NetworkInterfaces: []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{Groups: []string{SecurityGroup}}}},
	})
	require.NoError(t, err)
	fleet := &ec2.CreateFleetInput{
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{{
			LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecificationRequest{LaunchTemplateName: aws.String("mine/1")},
			Overrides: []types.FleetLaunchTemplateOverridesRequest{
				{InstanceType: "m5.large", SubnetId: aws.String(SubnetA), ImageId: aws.String(Image)},
				{InstanceType: "c5.large", SubnetId: aws.String(SubnetB), ImageId: aws.String(Image)},
			},
		}},
		TargetCapacitySpecification: &types.TargetCapacitySpecificationRequest{TotalTargetCapacity: aws.Int32(2), DefaultTargetCapacityType: "on-demand"},
		TagSpecifications:           []types.TagSpecification{{ResourceType: "instance", Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}},
	}
	made, err := client.CreateFleet(ctx, fleet)
	require.NoError(t, err)
	require.Len(t, made.Instances, 1)
	ids := made.Instances[0].InstanceIds
	require.Len(t, ids, 2)
	require.Equal(t, types.InstanceType("c5.large"), made.Instances[0].InstanceType, "the cheapest")
	require.Equal(t, SubnetB, *made.Instances[0].LaunchTemplateAndOverrides.Overrides.SubnetId)

	_, err = client.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids[:1], Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("one")}}})
	require.NoError(t, err)
	found, err := client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("tag-key"), Values: []string{"Name"}},
		{Name: aws.String("tag:a"), Values: []string{"b", "c"}},
		{Name: aws.String("instance-state-name"), Values: []string{Running}},
	}})
	require.NoError(t, err)
	require.Len(t, found.Reservations, 1)
	one := found.Reservations[0].Instances[0]
	require.Equal(t, ids[0], *one.InstanceId)
	require.Equal(t, SecurityGroup, *one.SecurityGroups[0].GroupId, "of the launch template")
	require.Equal(t, "us-east-1b", *one.Placement.AvailabilityZone)
	require.Equal(t, types.InstanceStateNameRunning, one.State.Name)

	_, err = client.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: ids[:1]})
	require.NoError(t, err)
	ended, err := client.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids[1:]})
	require.NoError(t, err)
	require.Equal(t, types.InstanceStateNameShuttingDown, ended.TerminatingInstances[0].CurrentState.Name)
	require.Equal(t, []string{"ec2:CreateFleet", "ec2:RebootInstances", "ec2:TerminateInstances"},
		lo.Map(fake.Changes(), func(c Change, _ int) string { return c.Action }))
	require.Equal(t, 1, fake.Instances()[0].Reboots)
	require.Equal(t, ShuttingDown, fake.Instances()[1].State())
	require.Empty(t, fake.Unknown())
}

func TestRefusalsAreWhatKarpenterTakesThemFor(t *testing.T) {
	fake, c := begin(t)
	ctx, client := context.Background(), ec2.NewFromConfig(c)
	_, err := client.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{DryRun: aws.Bool(true)})
	require.True(t, awserrors.IsDryRunError(err), "%v", err)
	_, err = client.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{"none"}})
	require.True(t, awserrors.IsNotFound(err), "%v", err)
	_, err = client.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{"i-none"}})
	require.True(t, awserrors.IsNotFound(err), "%v", err)
	fake.Fail("ec2:RebootInstances", "UnauthorizedOperation")
	_, err = client.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{"i-none"}})
	require.True(t, awserrors.IsUnauthorizedOperationError(err), "%v", err)

	require.Empty(t, fake.Unknown())
	_, err = client.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	require.Error(t, err)
	require.Equal(t, map[string]int{"ec2:DescribeVpcs": 1}, fake.Unknown())
}

func TestKarpentersOwnProvidersReadWhatIsOffered(t *testing.T) {
	fake, c := begin(t)
	ctx, client := context.Background(), ec2.NewFromConfig(c)
	prices := pricing.NewDefaultProvider(pricing.NewAPI(c), client, c.Region, false)
	require.NoError(t, prices.UpdateOnDemandPricing(ctx))
	require.NoError(t, prices.UpdateSpotPricing(ctx))
	price, known := prices.OnDemandPrice("m5.metal")
	require.True(t, known)
	require.InDelta(t, metal.price, price, 1e-6)
	price, known = prices.SpotPrice("m5.xlarge", "us-east-1b")
	require.True(t, known)
	require.InDelta(t, 0.192/3, price, 1e-6)

	class := &awsv1.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: awsv1.EC2NodeClassSpec{SubnetSelectorTerms: []awsv1.SubnetSelectorTerm{{ID: SubnetB}}}}
	found, err := awssubnet.NewDefaultProvider(client, cache.New(cache.NoExpiration, 0), cache.New(cache.NoExpiration, 0)).List(ctx, class)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "use1-az2", *found[0].AvailabilityZoneId)
	require.Empty(t, fake.Unknown())
}
