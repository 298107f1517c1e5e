package rules_test

import (
	"bufio"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

type wordings struct {
	Name         string            `json:"name"`
	Reason       string            `json:"reason"`
	Severity     v1alpha1.Severity `json:"severity"`
	Subject      string            `json:"subject"`
	CountsToward string            `json:"countsToward"`
	Recovers     bool              `json:"recovers"`
	Echo         bool              `json:"echo"`
	Lines        []string          `json:"lines"`
}

func TestKernelWordings(t *testing.T) {
	data, err := os.ReadFile("testdata/kmsg-wordings.yaml")
	require.NoError(t, err)
	var groups []wordings
	require.NoError(t, yaml.UnmarshalStrict(data, &groups))
	c := catalogue(t, rules.Custom{})
	for _, g := range groups {
		t.Run(g.Name, func(t *testing.T) {
			require.NotEmpty(t, g.Lines)
			for _, line := range g.Lines {
				got, ok := c.Match(health.StreamKmsg, line)
				require.Equal(t, g.Reason != "", ok, "%s: %+v", line, got)
				got.Category, got.Message, got.Given = "", "", ""
				want := rules.Match{Reason: g.Reason, Subject: g.Subject, Severity: g.Severity, CountsToward: g.CountsToward, Recovers: g.Recovers, Echo: g.Echo}
				require.Equal(t, want, got, line)
			}
		})
	}
}

func ordinaryLines(t testing.TB) []string {
	t.Helper()
	file, err := os.Open("testdata/ordinary-kmsg.txt")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	var lines []string
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	return lines
}

func TestOrdinaryKernelLinesMeanNothing(t *testing.T) {
	lines := ordinaryLines(t)
	require.Greater(t, len(lines), 400)
	c := catalogue(t, rules.Custom{})
	for _, line := range lines {
		text, ok := rules.Unwrap(health.StreamKmsg, line)
		require.True(t, ok, line)
		got, ok := c.Match(health.StreamKmsg, text)
		require.False(t, ok, "%s: %+v", line, got)
	}
}

func BenchmarkMatchOrdinaryKernelLines(b *testing.B) {
	lines := ordinaryLines(b)
	c := catalogue(b, rules.Custom{})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		text, _ := rules.Unwrap(health.StreamKmsg, lines[i])
		if _, ok := c.Match(health.StreamKmsg, text); ok {
			b.Fatal(lines[i])
		}
		if i++; i == len(lines) {
			i = 0
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
