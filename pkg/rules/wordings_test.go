package rules_test

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

const (
	fatal   = v1alpha1.SeverityFatal
	warning = v1alpha1.SeverityWarning
)

// wording is a line as its log has it, framing and all, and what it means; without a reason it means nothing.
type wording struct {
	line         string
	wantReason   string
	wantSeverity v1alpha1.Severity // empty: Warning
	wantSubject  string
	wantRecovers bool
	wantEcho     bool
}

func testWordings(t *testing.T, stream health.Stream, wordings map[string]wording) {
	t.Helper()
	c := catalogue(t, rules.Custom{})
	for name, tc := range wordings {
		t.Run(name, func(t *testing.T) {
			text, ok := rules.Unwrap(stream, tc.line)
			require.True(t, ok, "the line is taken for one of another stream")
			got, ok := c.Match(stream, text)
			if tc.wantReason == "" {
				require.False(t, ok, "%s: %s", got.Reason, text)
				return
			}
			require.True(t, ok, text)
			require.Equal(t, tc.wantReason, got.Reason)
			require.Equal(t, tc.wantSubject, got.Subject)
			require.Equal(t, tc.wantRecovers, got.Recovers)
			require.Equal(t, tc.wantEcho, got.Echo)
			if !tc.wantRecovers {
				want := tc.wantSeverity
				if want == "" {
					want = warning
				}
				require.Equal(t, want, got.Severity)
			}
		})
	}
}

// ordinary gives the lines of a file of testdata that holds what a healthy node writes. Lines with # are remarks.
func ordinary(t testing.TB, stream health.Stream) []string {
	t.Helper()
	f, err := os.Open("testdata/ordinary-" + string(stream) + ".txt")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	var lines []string
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, rules.MaxRaw)
	for scanner.Scan() {
		if line := scanner.Text(); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	require.NoError(t, scanner.Err())
	return lines
}

var ofServices = []health.Stream{health.StreamKubelet, health.StreamContainerd, health.StreamSystemd, health.StreamIPAMD, health.StreamKubeProxy}

func TestOrdinaryLinesOfServicesMeanNothing(t *testing.T) {
	c := catalogue(t, rules.Custom{})
	for _, stream := range ofServices {
		lines := ordinary(t, stream)
		require.GreaterOrEqual(t, len(lines), 150, stream)
		seen := map[string]bool{}
		for _, line := range lines {
			require.False(t, seen[line], "%s stands there twice", line)
			seen[line] = true
			text, ok := rules.Unwrap(stream, line)
			require.True(t, ok, "%s: taken for a line of another stream: %s", stream, line)
			got, ok := c.Match(stream, text)
			require.False(t, ok, "%s: %s: %s", stream, got.Reason, line)
		}
	}
}

// What is written in one stream means nothing in another, but for the few words that several programs say.
func TestOrdinaryLinesMeanNothingInTheKernelLog(t *testing.T) {
	c := catalogue(t, rules.Custom{})
	for _, stream := range ofServices {
		for _, line := range ordinary(t, stream) {
			text, _ := rules.Unwrap(stream, line)
			got, ok := c.Match(health.StreamKmsg, text)
			require.False(t, ok, "%s: %s", got.Reason, line)
		}
	}
}

func BenchmarkOrdinaryLinesOfServices(b *testing.B) {
	c := catalogue(b, rules.Custom{})
	for _, stream := range ofServices {
		lines := ordinary(b, stream)
		b.Run("match/"+string(stream), func(b *testing.B) {
			texts := make([]string, len(lines))
			for i, line := range lines {
				texts[i], _ = rules.Unwrap(stream, line)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.Match(stream, texts[i%len(texts)])
			}
		})
		b.Run("unwrap-and-match/"+string(stream), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				text, _ := rules.Unwrap(stream, lines[i%len(lines)])
				c.Match(stream, text)
			}
		})
	}
}

// Whatever a program writes, what is made of it is a reason of the catalogue and a subject that can be shown.
func FuzzLinesOfAllStreams(f *testing.F) {
	for _, r := range health.LineRules {
		f.Add(r.Sample)
		f.Add(r.CounterSample)
	}
	c := catalogue(f, rules.Custom{})
	f.Fuzz(func(t *testing.T, line string) {
		for _, stream := range health.Streams {
			text, ok := rules.Unwrap(stream, line)
			if !ok {
				continue
			}
			got, ok := c.Match(stream, text)
			if !ok {
				continue
			}
			if _, known := health.Lookup(got.Reason); !known {
				t.Fatalf("%q is no reason", got.Reason)
			}
			if len(got.Subject) > 253 || !utf8.ValidString(got.Subject) || strings.ContainsAny(got.Subject, "\r\n\x1b") {
				t.Fatalf("%q is no subject", got.Subject)
			}
		}
	})
}
