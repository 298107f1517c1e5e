package rules_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

func catalogue(t testing.TB, custom rules.Custom) *rules.Catalogue {
	t.Helper()
	c, err := rules.New(custom)
	require.NoError(t, err)
	return c
}

// Every rule of the catalogue is reached by its own sample: none stands in the shade of another.
func TestSamplesFireTheirOwnRule(t *testing.T) {
	c := catalogue(t, rules.Custom{})
	for _, r := range health.LineRules {
		got, ok := c.Match(r.Stream, r.Sample)
		require.True(t, ok, r.Sample)
		want, ok := health.Lookup(got.Reason)
		require.True(t, ok, "%s makes %s, which the catalogue does not have", r.Sample, got.Reason)
		require.Equal(t, want.Category, got.Category)
		if named, ok := health.Lookup(r.Reason); ok {
			require.Equal(t, named.Name, want.Name, r.Sample)
		}
		require.Equal(t, r.Recovers, got.Recovers, r.Sample)
		require.Equal(t, r.CountsToward, got.CountsToward, r.Sample)
		require.Equal(t, r.Echo, got.Echo, r.Sample)
		require.NotEmpty(t, got.Message)
		counter, ok := c.Match(r.Stream, r.CounterSample)
		require.False(t, ok && counter.Reason == got.Reason && counter.Recovers == got.Recovers && counter.Subject == got.Subject,
			"%s fires it too", r.CounterSample)
	}
}
