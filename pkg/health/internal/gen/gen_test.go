package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", name))
	require.NoError(t, err)
	return data
}

func TestGeneratedFilesAreThoseOfTheCatalogue(t *testing.T) {
	files, err := generate(read(t, catalogueFile))
	require.NoError(t, err)
	for name, want := range files {
		require.Empty(t, cmp.Diff(string(want), string(read(t, name))), "%s is old: run go generate ./pkg/health", name)
	}
}

func TestStreamsAreThoseOfTheRules(t *testing.T) {
	want := make([]string, 0, len(health.Streams))
	for _, s := range health.Streams {
		want = append(want, string(s))
	}
	require.Equal(t, want, streams)
}

func TestOrderIsThatOfTheConditions(t *testing.T) {
	require.Equal(t, append(append([]v1alpha1.Category{}, health.Categories...), v1alpha1.CategoryRequest), order)
}

func TestReasonsAreReadAsSentences(t *testing.T) {
	c, err := parse(read(t, catalogueFile))
	require.NoError(t, err)
	text := string(markdown(c))
	for name, want := range map[string]string{
		"a Warning that becomes Fatal":   "**Warning, Fatal after being seen 3 times in 10m.** A processor was stuck",
		"a Fatal one says when":          "- **By default:** the node is replaced, once it has stood for 30m.\n- **Believed after** standing for 10s, **over after** a look that does not find it; seen by interfaces;",
		"a Warning is only shown":        "- **By default:** shown, and nothing else.",
		"a pair, or quiet":               "**over after** a line that says so or 2m without it; seen by ipamd-log;",
		"what nobody states yet":         "seen by nodeclaim (which states nothing yet);",
		"a request is heeded at once":    "- **By default:** the node is repaired as asked, at once.",
		"a family has its link":          "[NvidiaXID&lt;n&gt;Warning](#nvidiaxidnwarning)",
		"a family has its expression":    "- **Written as** `",
		"what every reason has to offer": "- **What to do:** ",
	} {
		require.Contains(t, text, want, name)
	}
	require.Equal(t, len(c.reasons), strings.Count(text, "\n- **What to do:** "))
}

// Every category with a reason that is replaced has a rule, and no other.
func TestDefaultPolicyCoversWhatIsReplaced(t *testing.T) {
	var policy v1alpha1.RepairPolicy
	require.NoError(t, yaml.UnmarshalStrict(read(t, policyFile), &policy))
	require.Zero(t, policy.Spec.Weight)
	covered := map[v1alpha1.Category]time.Duration{}
	for _, rule := range policy.Spec.Rules {
		require.Equal(t, v1alpha1.ActionReplace, rule.Action)
		require.Equal(t, 30*time.Minute, rule.DrainBound.Duration)
		require.Len(t, rule.Match.Categories, 1)
		covered[rule.Match.Categories[0]] = rule.Tolerate.Duration
	}
	for _, r := range health.Reasons {
		if r.Action == v1alpha1.ActionReplace && r.Category != v1alpha1.CategoryRequest {
			require.Contains(t, covered, r.Category, r.Name)
		}
	}
	require.NotContains(t, covered, v1alpha1.CategoryRequest, "a request is never held up by a toleration")
	require.Equal(t, 10*time.Minute, covered[v1alpha1.CategoryAcceleratedHardware])
	require.Equal(t, 30*time.Minute, covered[v1alpha1.CategoryKubelet])
}

const (
	someCategories = "categories:\n" +
		"- {name: Kernel, explanation: e, tolerate: 30m, threshold: t}\n" +
		"- {name: Networking, explanation: e}\n- {name: Storage, explanation: e}\n- {name: ContainerRuntime, explanation: e}\n" +
		"- {name: AcceleratedHardware, explanation: e}\n- {name: Kubelet, explanation: e}\n- {name: Instance, explanation: e}\n" +
		"- {name: Request, explanation: e}\n"
	fatal = "- {name: A, category: Kernel, severity: Fatal, sources: [x], action: Replace, explanation: E., remedy: R., threshold: t, confirm: 1m, clears: poll,\n" +
		"   lines: [{stream: kmsg, pattern: '^disk (?P<d>[a-z]+) died', subject: '${d}', sample: disk sda died, counterSample: the disk sda died}]}\n"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		old, new    string // what is changed in a good catalogue
		wantError   string
		wantConfirm health.Confirm
		wantClears  health.Clears
	}{
		"a duration confirms by time":                      {old: "confirm: 1m", new: "confirm: 10s", wantConfirm: health.Confirm{For: 10 * time.Second}, wantClears: health.Clears{By: "poll"}},
		"a count within a time confirms by number":         {old: "confirm: 1m, clears: poll", new: "confirm: 3 in 10m, clears: quiet 1h", wantConfirm: health.Confirm{Count: 3, Within: 10 * time.Minute}, wantClears: health.Clears{By: "quiet", Quiet: time.Hour}},
		"a line ends it, or quiet where none comes":        {old: "confirm: 1m, clears: poll", new: `confirm: 2 polls, clears: "pair, quiet 2m"`, wantConfirm: health.Confirm{Count: 2}, wantClears: health.Clears{By: "pair", Quiet: 2 * time.Minute}},
		"a reason that nothing clears is refused":          {old: ", clears: poll", wantError: "clears"},
		"a reason with two ways to clear is refused":       {old: "clears: poll", new: `clears: "boot, quiet 2m"`, wantError: "only pair may be followed by quiet"},
		"a count that is no number is refused":             {old: "confirm: 1m", new: "confirm: often", wantError: "write a duration, N"},
		"a field that nobody knows is refused":             {old: "sources", new: "colour: red, sources", wantError: "colour"},
		"a reason that stands there twice is refused":      {old: fatal, new: fatal + fatal, wantError: "A stands there twice"},
		"a missing remedy is refused":                      {old: "remedy: R., ", wantError: "remedy must be sentences"},
		"an unknown category is refused":                   {old: "category: Kernel", new: "category: Colonel", wantError: `category "Colonel"`},
		"a forgotten category is refused":                  {old: "- {name: Storage, explanation: e}\n", wantError: "write Kernel, Networking, Storage"},
		"a toleration of nothing is refused":               {old: "tolerate: 30m", new: "tolerate: 0s", wantError: "at least 1s"},
		"a warning with an action is refused":              {old: "severity: Fatal", new: "severity: Warning", wantError: "only a Warning is not"},
		"a fatal reason without action is refused":         {old: "action: Replace", new: "action: None", wantError: "can be Fatal is replaced"},
		"a name that is no word is refused":                {old: "name: A,", new: "name: a b,", wantError: "CamelCase"},
		"an example off its pattern is refused":            {old: "name: A,", new: "name: A<n>, pattern: 'A[0-9]+', example: A1B,", wantError: "does not match the pattern"},
		"a rule that does not compile is refused":          {old: "died'", new: "(died'", wantError: "lines[0]: pattern: write a regular expression"},
		"a rule for every line is refused":                 {old: "'^disk (?P<d>[a-z]+) died'", new: "'(?P<d>)'", wantError: "matches every line"},
		"a rule off its sample is refused":                 {old: "sample: disk", new: "sample: desk", wantError: "sample: does not match"},
		"a rule that matches its counter is refused":       {old: "counterSample: the disk", new: "counterSample: disk", wantError: "counterSample: matches the pattern"},
		"a rule without counter-sample is refused":         {old: ", counterSample: the disk sda died", wantError: "counterSample: write a line"},
		"a rule of an unknown stream is refused":           {old: "stream: kmsg", new: "stream: syslog", wantError: `stream "syslog": write one of kmsg`},
		"a subject without its group is refused":           {old: "${d}", new: "${disk}", wantError: "the pattern has no group"},
		"a rule with a reason of its own is refused":       {old: "stream: kmsg", new: "reason: B, stream: kmsg", wantError: "leave it out elsewhere"},
		"a rule that counts toward nothing is refused":     {old: "stream: kmsg", new: "stream: kmsg, countsToward: B", wantError: `countsToward "B"`},
		"a recovery with a severity is refused":            {old: "stream: kmsg", new: "stream: kmsg, recovers: true, severity: Fatal", wantError: "recovers:"},
		"a reason that nothing is said to fire is refused": {old: "stream: kmsg", new: "stream: kmsg, recovers: true", wantError: "sample: write a sentence"},
		"a Warning of filesystems is refused":              {old: "severity: Fatal, sources: [x], action: Replace", new: "severity: Warning, ofNodeFilesystem: true, sources: [x], action: None", wantError: "ofNodeFilesystem: a reason that is never Fatal"},
		"a Fatal line of a Warning is refused":             {old: "severity: Fatal, sources: [x], action: Replace, explanation: E., remedy: R., threshold: t, confirm: 1m, clears: poll,\n   lines: [{", new: "severity: Warning, sources: [x], action: None, explanation: E., remedy: R., threshold: t, confirm: 1m, clears: poll,\n   lines: [{severity: Fatal, ", wantError: "severity Fatal: the reason is never Fatal"},
		"an echo that counts is refused":                   {old: "stream: kmsg", new: "stream: kmsg, echo: true, countsToward: A", wantError: "echo:"},
		"a sample beside lines is refused":                 {old: "clears: poll,", new: "clears: poll, sample: s,", wantError: "sample: leave it out"},
		"a pattern that does not compile is refused":       {old: "name: A,", new: "name: A<n>, pattern: 'A(', example: A1,", wantError: "missing closing"},
	} {
		t.Run(name, func(t *testing.T) {
			good := someCategories + "reasons:\n" + fatal
			require.Contains(t, good, tc.old)
			c, err := parse([]byte(strings.Replace(good, tc.old, tc.new, 1)))
			if tc.wantError != "" {
				require.ErrorContains(t, err, tc.wantError)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.wantConfirm, c.reasons[0].confirm)
			require.Equal(t, tc.wantClears, c.reasons[0].clears)
		})
	}
}
