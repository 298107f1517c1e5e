package health_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

func TestLookup(t *testing.T) {
	for name, tc := range map[string]struct {
		reason       string
		wantUnknown  bool
		wantSeverity v1alpha1.Severity
		wantReboot   bool
	}{
		"a reason is found by its name":                 {reason: health.ReasonNodeNotReady, wantSeverity: v1alpha1.SeverityFatal},
		"an XID that a reset cures may be rebooted":     {reason: "NvidiaXID48Error", wantSeverity: v1alpha1.SeverityFatal, wantReboot: true},
		"an XID that no reset cures may not":            {reason: "NvidiaXID79Error", wantSeverity: v1alpha1.SeverityFatal},
		"an XID that nobody has heard of is a warning":  {reason: "NvidiaXID99999Warning", wantSeverity: v1alpha1.SeverityWarning},
		"a reason with more at its end is not the same": {reason: "NvidiaXID48ErrorAgain", wantUnknown: true},
		"the name of a family is not a reason":          {reason: "NvidiaXID<n>Error", wantUnknown: true},
		"a reason of a user's own is not in it":         {reason: "DiskOnFire", wantUnknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := health.Lookup(tc.reason)
			require.Equal(t, !tc.wantUnknown, ok)
			if ok {
				require.Equal(t, tc.wantSeverity, got.Severity)
				require.Equal(t, tc.wantReboot, got.RebootMayCure)
			}
		})
	}
}

func TestReasonsAreFoundAsThemselves(t *testing.T) {
	for _, r := range health.Reasons {
		reason := r.Name
		if r.Pattern != "" {
			reason = r.Example
		}
		got, ok := health.Lookup(reason)
		require.True(t, ok, reason)
		require.Equal(t, r, got, "another entry stands before the one for %s", reason)
	}
}
