package ec2

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/arczonalshift"
	"github.com/aws/aws-sdk-go-v2/service/arczonalshift/types"
	sdk "github.com/aws/karpenter-provider-aws/pkg/aws"
	"github.com/samber/lo"
)

// PermissionOfShifts is what the role of the process needs to look at zonal shifts of the cluster.
const PermissionOfShifts = "arc-zonal-shift:GetManagedResource"

// Shift is a zone from which traffic of the cluster is being shifted away.
type Shift struct {
	// ZoneID is the same in every account, for example use1-az1; the zone's name is not.
	ZoneID string
	// Until is when it ends by itself; zero for an autoshift, which AWS ends when the zone is well.
	Until time.Time
	// Comment of who started it; empty for an autoshift.
	Comment string
}

// Shifts asks ARC which zonal shifts and autoshifts are applied to a cluster, one for each zone: the one that ends last.
func Shifts(ctx context.Context, api sdk.ARCZonalShiftAPI, clusterARN string, now time.Time) ([]Shift, error) {
	out, err := api.GetManagedResource(ctx, &arczonalshift.GetManagedResourceInput{ResourceIdentifier: &clusterARN})
	if err != nil {
		return nil, fmt.Errorf("getting zonal shifts of %s, %w", clusterARN, err)
	}
	var shifts []Shift
	for _, shift := range out.Autoshifts {
		if shift.AppliedStatus == types.AutoshiftAppliedStatusApplied {
			shifts = append(shifts, Shift{ZoneID: lo.FromPtr(shift.AwayFrom), Comment: "autoshift"})
		}
	}
	for _, shift := range out.ZonalShifts {
		if until := lo.FromPtr(shift.ExpiryTime); shift.AppliedStatus == types.AppliedStatusApplied && until.After(now) {
			shifts = append(shifts, Shift{ZoneID: lo.FromPtr(shift.AwayFrom), Until: until, Comment: lo.FromPtr(shift.Comment)})
		}
	}
	slices.SortStableFunc(shifts, func(a, b Shift) int {
		return cmp.Or(cmp.Compare(a.ZoneID, b.ZoneID), boolFirst(a.Until.IsZero(), b.Until.IsZero()), b.Until.Compare(a.Until))
	})
	return slices.CompactFunc(shifts, func(a, b Shift) bool { return a.ZoneID == b.ZoneID }), nil
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
