package rules

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

func TestLiterals(t *testing.T) {
	for name, tc := range map[string]struct {
		pattern string
		want    []string
	}{
		"the longest text that must be there is taken": {pattern: `^ab (?P<x>\S+) longer`, want: []string{" longer"}},
		"of alternatives one must be there":            {pattern: `(?:abcd|efgh) x`, want: []string{"abcd", "efgh"}},
		"the part that alternatives share is found":    {pattern: `abcde|abcfg`, want: []string{"abc"}},
		"an alternative without text hides the others": {pattern: `(?:abcd|\d+)x`, want: nil},
		"what may be left out is not needed":           {pattern: `(?:abcd)?efg`, want: []string{"efg"}},
		"what may be left out hides nothing else":      {pattern: `(?:abcdefgh)*ijk`, want: []string{"ijk"}},
		"what is there at least once is needed":        {pattern: `(?:abcd)+`, want: []string{"abcd"}},
		"case does not count":                          {pattern: `ABcd`, want: []string{"abcd"}},
		"where case does not count s and k end a part": {pattern: `(?i)abcdskefg`, want: []string{"abcd"}},
		"texts beyond ASCII end a part":                {pattern: `abcdéfg`, want: []string{"abcd"}},
		"a short text sorts nothing out":               {pattern: `ab\d`, want: nil},
		"no text is none":                              {pattern: `\d+ \w+`, want: nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, literals(tc.pattern))
		})
	}
}

func TestEveryRuleOfTheProjectHasLiterals(t *testing.T) {
	for _, r := range health.LineRules {
		require.GreaterOrEqual(t, shortest(literals(r.Pattern)), minLiteral, "every line would be tried against %s", r.Pattern)
	}
}

// The automaton never hides a line from a rule that matches it.
func TestCandidatesAreAllThatMatch(t *testing.T) {
	patterns := []string{`abcd`, `bcd\d`, `(?i)KELVIN`, `cde+f`, `\d{4}`, `(?i)ss|tt`, `x(?:yz1|yz2)`}
	var rules []*rule
	for _, p := range patterns {
		rules = append(rules, &rule{LineRule: health.LineRule{Pattern: p}})
	}
	m := newMatcher(rules)
	for _, line := range []string{
		"", "abcd", "ABCD", "xabcd1y", "bcd", "bcdef abcdeef", "\u212aelvin", "kelvin", "KELVIN", "1234", "Stra\u017f\u017fe", "xyz1 xyz2 abcd1234 cdef", "abcabcd", "ababcdeabcdef",
	} {
		got := m.candidates(line, nil)
		for i, p := range patterns {
			if regexp.MustCompile(p).MatchString(line) {
				require.Contains(t, got, int32(i), "%q in %q", p, line)
			}
		}
		require.IsIncreasing(t, append([]int32{-1}, got...))
	}
}
