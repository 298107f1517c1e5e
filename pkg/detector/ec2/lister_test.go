package ec2

import (
	"errors"
	"testing"
	"time"

	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/karpenter-provider-aws/pkg/fake"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// failed is a check that fails.
func failed(since *time.Time) []types.InstanceStatusDetails {
	return []types.InstanceStatusDetails{{Name: types.StatusNameReachability, Status: types.StatusTypeFailed, ImpairedSince: since}}
}

// everything is an instance against which EC2 holds all that there is.
func everything(since, due time.Time) types.InstanceStatus {
	return types.InstanceStatus{
		InstanceId:     lo.ToPtr("i-1"),
		InstanceStatus: &types.InstanceStatusSummary{Status: types.SummaryStatusImpaired, Details: failed(&since)},
		SystemStatus:   &types.InstanceStatusSummary{Status: types.SummaryStatusImpaired, Details: failed(&since)},
		AttachedEbsStatus: &types.EbsStatusSummary{Status: types.SummaryStatusImpaired, Details: []types.EbsStatusDetails{
			{Name: types.StatusNameReachability, Status: types.StatusTypeFailed, ImpairedSince: &since},
		}},
		Events: []types.InstanceStatusEvent{
			{Code: types.EventCodeInstanceStop, NotBefore: &due, Description: lo.ToPtr("degraded hardware")},
			{Code: types.EventCodeSystemReboot, NotBefore: &since, Description: lo.ToPtr("[Canceled] reboot")},
		},
	}
}

func TestTheListerTakesWhatItWasToldTo(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	since, due := now.Add(-time.Hour), now.Add(24*time.Hour)
	wants := map[string]Impairment{
		health.ReasonInstanceStatusImpaired:    {Reason: health.ReasonInstanceStatusImpaired, Check: "reachability", Since: since},
		health.ReasonSystemStatusImpaired:      {Reason: health.ReasonSystemStatusImpaired, Check: "reachability", Since: since},
		health.ReasonAttachedEBSStatusImpaired: {Reason: health.ReasonAttachedEBSStatusImpaired, Check: "reachability", Since: since},
		health.ReasonScheduledMaintenance:      {Reason: health.ReasonScheduledMaintenance, Check: "instance-stop", Due: due, Detail: "degraded hardware"},
	}
	for _, takes := range append(lo.Chunk(Reasons, 1), LeftToKarpenter, Reasons) {
		api := &fake.EC2API{}
		api.DescribeInstanceStatusOutput.Set(&awsec2.DescribeInstanceStatusOutput{InstanceStatuses: []types.InstanceStatus{everything(since, due)}})
		lister, err := NewLister(api, clocktesting.NewFakeClock(now), takes)
		require.NoError(t, err)
		found, err := lister.List(t.Context())
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.ElementsMatch(t, lo.Map(takes, func(reason string, _ int) Impairment { return wants[reason] }), found["i-1"], "%v", takes)
	}
}

func TestWhatEC2DoesNotSayIsNotThere(t *testing.T) {
	api := &fake.EC2API{}
	api.DescribeInstanceStatusOutput.Set(&awsec2.DescribeInstanceStatusOutput{InstanceStatuses: []types.InstanceStatus{{InstanceId: lo.ToPtr("i-1")}, {}}})
	lister, err := NewLister(api, clocktesting.NewFakeClock(time.Now()), []string{health.ReasonAttachedEBSStatusImpaired, health.ReasonScheduledMaintenance})
	require.NoError(t, err)
	found, err := lister.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestARefusalIsAnErrorAndNotHealth(t *testing.T) {
	for _, takes := range lo.Chunk(Reasons, 1) {
		api := &fake.EC2API{}
		api.NextError.Set(errors.New("refused"))
		lister, err := NewLister(api, clocktesting.NewFakeClock(time.Now()), takes)
		require.NoError(t, err)
		_, err = lister.List(t.Context())
		require.ErrorContains(t, err, "refused", takes)
	}
}

func TestAReasonThatEC2CannotGiveIsRefused(t *testing.T) {
	for _, takes := range [][]string{{"KernelPanic"}, nil} {
		_, err := NewLister(&fake.EC2API{}, clocktesting.NewFakeClock(time.Now()), takes)
		require.ErrorContains(t, err, "write some of InstanceStatusImpaired, SystemStatusImpaired, AttachedEBSStatusImpaired, ScheduledMaintenance")
	}
}
