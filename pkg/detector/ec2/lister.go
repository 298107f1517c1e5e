// Package ec2 finds faults of instances in what EC2 says of them. It asks with the credentials of its process, for
// reading only, and for nothing but what it was told to take.
package ec2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	sdk "github.com/aws/karpenter-provider-aws/pkg/aws"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancestatus"
	"github.com/aws/smithy-go"
	"github.com/samber/lo"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Reasons that EC2's status checks and events can give, in the order of the catalogue.
var Reasons = []string{
	health.ReasonInstanceStatusImpaired, health.ReasonSystemStatusImpaired,
	health.ReasonAttachedEBSStatusImpaired, health.ReasonScheduledMaintenance,
}

// LeftToKarpenter are the reasons for which Karpenter on AWS deletes the instance itself after 120 s, at once and
// without a budget (github.com/aws/karpenter-provider-aws v1.15.0, pkg/controllers/interruption).
var LeftToKarpenter = []string{
	health.ReasonInstanceStatusImpaired, health.ReasonSystemStatusImpaired, health.ReasonScheduledMaintenance,
}

// Permission is what the role of the process needs to look at instances. EC2 knows no narrower resource for it than "*".
const Permission = "ec2:DescribeInstanceStatus"

// Impairment is one thing that EC2 holds against an instance.
type Impairment struct {
	Reason string
	// Check is the name of the failed check, or the code of the event.
	Check string
	// Since is when EC2 says that it began; zero where it does not.
	Since time.Time
	// Due is when scheduled maintenance is to begin; zero for all else, and where EC2 gives no date.
	Due time.Time
	// Detail is EC2's own description of an event.
	Detail string
}

// Lister asks EC2 for the instances that are impaired.
type Lister struct {
	api   sdk.EC2API
	karp  instancestatus.Provider
	takes []string
}

// NewLister makes a Lister for some of the Reasons. It gives an error that names those there are for any other.
func NewLister(api sdk.EC2API, clk clock.Clock, takes []string) (*Lister, error) {
	if unknown, _ := lo.Difference(takes, Reasons); len(unknown) > 0 || len(takes) == 0 {
		return nil, fmt.Errorf("reasons to take are %q: write some of %s", takes, strings.Join(Reasons, ", "))
	}
	return &Lister{api: api, karp: instancestatus.NewDefaultProvider(api, clk), takes: takes}, nil
}

// Takes gives the reasons that are asked for.
func (l *Lister) Takes() []string { return l.takes }

// List gives what is impaired, by instance ID. EC2 names those alone that are, so that the answer is small however many
// instances there are.
func (l *Lister) List(ctx context.Context) (map[string][]Impairment, error) {
	found := map[string][]Impairment{}
	for _, ask := range []func(context.Context, map[string][]Impairment) error{l.checks, l.volumes, l.events} {
		if err := ask(ctx, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// checks are those that Karpenter's own code lists, after its own 120 s.
func (l *Lister) checks(ctx context.Context, found map[string][]Impairment) error {
	reasons := map[instancestatus.Category]string{
		instancestatus.InstanceStatus: health.ReasonInstanceStatusImpaired,
		instancestatus.SystemStatus:   health.ReasonSystemStatusImpaired,
	}
	if !slices.ContainsFunc(l.takes, func(taken string) bool { return slices.Contains(lo.Values(reasons), taken) }) {
		return nil
	}
	statuses, err := l.karp.List(ctx)
	if err != nil {
		return fmt.Errorf("listing instance status checks, %w", err)
	}
	for _, status := range statuses {
		for _, detail := range status.Details {
			if reason := reasons[detail.Category]; slices.Contains(l.takes, reason) {
				found[status.InstanceID] = append(found[status.InstanceID], Impairment{Reason: reason, Check: detail.Name, Since: detail.ImpairedSince})
			}
		}
	}
	return nil
}

// volumes are the checks of attached EBS volumes, which Karpenter ignores.
func (l *Lister) volumes(ctx context.Context, found map[string][]Impairment) error {
	if !slices.Contains(l.takes, health.ReasonAttachedEBSStatusImpaired) {
		return nil
	}
	return l.pages(ctx, "attached-ebs-status.status", []string{string(types.SummaryStatusImpaired)}, func(id string, status types.InstanceStatus) {
		if status.AttachedEbsStatus == nil {
			return
		}
		for _, detail := range status.AttachedEbsStatus.Details {
			if detail.Status == types.StatusTypeFailed {
				found[id] = append(found[id], Impairment{
					Reason: health.ReasonAttachedEBSStatusImpaired, Check: string(detail.Name), Since: lo.FromPtr(detail.ImpairedSince),
				})
			}
		}
	})
}

// eventCodes are all that EC2 schedules.
var eventCodes = lo.Map(types.EventCode("").Values(), func(code types.EventCode, _ int) string { return string(code) })

// events that EC2 has scheduled. It goes on listing those that are over for a week, and says so in their description.
func (l *Lister) events(ctx context.Context, found map[string][]Impairment) error {
	if !slices.Contains(l.takes, health.ReasonScheduledMaintenance) {
		return nil
	}
	return l.pages(ctx, "event.code", eventCodes, func(id string, status types.InstanceStatus) {
		for _, event := range status.Events {
			if description := lo.FromPtr(event.Description); !over(description) {
				found[id] = append(found[id], Impairment{
					Reason: health.ReasonScheduledMaintenance, Check: string(event.Code), Due: lo.FromPtr(event.NotBefore), Detail: description,
				})
			}
		}
	})
}

func over(description string) bool {
	return strings.HasPrefix(description, "[Completed]") || strings.HasPrefix(description, "[Canceled]")
}

func (l *Lister) pages(ctx context.Context, filter string, values []string, each func(id string, status types.InstanceStatus)) error {
	pager := ec2.NewDescribeInstanceStatusPaginator(l.api, &ec2.DescribeInstanceStatusInput{
		Filters: []types.Filter{{Name: &filter, Values: values}},
	})
	for pager.HasMorePages() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("listing instances by %s, %w", filter, err)
		}
		for _, status := range page.InstanceStatuses {
			if id := lo.FromPtr(status.InstanceId); id != "" {
				each(id, status)
			}
		}
	}
	return nil
}

// Denied says whether AWS refused for want of a permission, which no waiting mends.
func Denied(err error) bool {
	var refused smithy.APIError
	return errors.As(err, &refused) && slices.Contains([]string{"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}, refused.ErrorCode())
}
