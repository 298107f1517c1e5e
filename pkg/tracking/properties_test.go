package tracking

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Whatever is seen, in whatever order: what clears by looking is gone after a look that finds nothing; what clears by
// quiet is gone after that time; nothing but faults of the boot stays; the start of a finding never moves forward within
// an episode; and a Fatal finding was confirmed.
func TestFindingsComeAndGoAsTheCatalogueSays(t *testing.T) {
	var reasons []string
	for _, r := range health.Reasons {
		if r.Pattern == "" {
			reasons = append(reasons, r.Name)
		} else {
			reasons = append(reasons, r.Example)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		tracker := New("test", time.Minute, catalogue{})
		now := began
		sighted := map[Key]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1200).Draw(t, "pause")) * time.Second)
			var look Look
			for range rapid.IntRange(0, 3).Draw(t, "faults") {
				look.Faults = append(look.Faults, Fault{Reason: rapid.SampledFrom(reasons).Draw(t, "fault"), Subject: rapid.SampledFrom([]string{"", "a"}).Draw(t, "subject")})
			}
			for range rapid.IntRange(0, 5).Draw(t, "sightings") {
				s := Sighting{
					Reason: rapid.SampledFrom(reasons).Draw(t, "sighting"), At: now.Add(-time.Duration(rapid.IntRange(-60, 5000).Draw(t, "age")) * time.Second),
					Count: int64(rapid.IntRange(0, 50).Draw(t, "count")), Recovered: rapid.IntRange(0, 9).Draw(t, "recovered") == 0,
				}
				sighted[Key{Reason: s.Reason}] = true
				look.Sightings = append(look.Sightings, s)
			}
			require.NoError(t, tracker.Update(look, now))
			for _, f := range tracker.Findings(now) {
				r, _ := health.Lookup(f.Reason)
				require.False(t, f.Since.After(now))
				require.False(t, f.LastObserved.After(now))
				require.False(t, f.LastObserved.Time.Before(f.Since.Time))
				require.Positive(t, f.Count)
				require.True(t, f.Severity == v1alpha1.SeverityWarning || r.Severity == v1alpha1.SeverityFatal || r.FatalFrom != nil, "%s can never be Fatal", f.Reason)
			}
		}
		require.NoError(t, tracker.Update(Look{}, now))
		for _, f := range tracker.Findings(now) {
			r, _ := health.Lookup(f.Reason)
			require.True(t, r.Clears.By != health.ClearsByPoll || sighted[Key{Reason: f.Reason, Subject: f.Subject}], "%s stands after a healthy look", f.Reason)
		}
		now = now.Add(2 * time.Hour)
		require.NoError(t, tracker.Update(Look{}, now))
		for _, f := range tracker.Findings(now) {
			r, _ := health.Lookup(f.Reason)
			require.Zero(t, r.Clears.Quiet, "%s stands after two hours of quiet", f.Reason)
		}
	})
}
