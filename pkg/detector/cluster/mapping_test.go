package cluster

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

func load(t *testing.T, text string) ([]Mapping, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node-conditions.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return LoadNodeConditions(path)
}

// People read in the catalogue, and in the documentation that is made of it, what a reason does.
func TestNamedReasonsAreThoseOfTheCatalogue(t *testing.T) {
	defaults, err := LoadNodeConditions("")
	require.NoError(t, err)
	for _, mapping := range defaults {
		finding := mapping.Finding
		if finding.Reason == "" {
			continue
		}
		known, ok := health.Lookup(finding.Reason)
		require.True(t, ok, finding.Reason)
		require.Equal(t, known.Category, finding.Category, finding.Reason)
		require.Equal(t, known.Severity, finding.Severity, finding.Reason)
		require.Contains(t, known.Sources, SourceNodeConditions, finding.Reason)
	}
}

func TestAUsersEntriesComeBeforeTheDefaults(t *testing.T) {
	defaults, err := LoadNodeConditions("")
	require.NoError(t, err)
	require.NotEmpty(t, defaults)
	mappings, err := load(t, `
- conditionType: KWOKUnhealthy
  conditionStatus: "True"
  finding:
    category: Kernel
    severity: Fatal
- conditionType: KernelReady
  conditionStatus: "False"
  reasonPattern: "Known|Harm.*"
  finding: {reason: OurKernel, category: Kernel, severity: Warning, message: we know}
`)
	require.NoError(t, err)
	require.Len(t, mappings, len(defaults)+2)
	for name, test := range map[string]struct {
		condition    corev1.NodeCondition
		want         string
		wantSeverity v1alpha1.Severity
		wantMessage  string
	}{
		"a condition of the user's own":     {condition: condition("KWOKUnhealthy", yes, "Broken", time.Hour), want: "Broken", wantSeverity: v1alpha1.SeverityFatal, wantMessage: "said so"},
		"it in another status is nothing":   {condition: condition("KWOKUnhealthy", no, "Broken", time.Hour)},
		"a reason that the pattern matches": {condition: condition("KernelReady", no, "Harmless", time.Hour), want: "OurKernel", wantSeverity: v1alpha1.SeverityWarning, wantMessage: "we know"},
		"one that it matches in part only":  {condition: condition("KernelReady", no, "UnKnown", time.Hour), want: "UnKnown", wantSeverity: v1alpha1.SeverityFatal, wantMessage: "said so"},
	} {
		t.Run(name, func(t *testing.T) {
			got := report(t, Detect(Input{Now: now, Node: newNode(test.condition)}, mappings), SourceNodeConditions)
			require.Equal(t, []v1alpha1.Category{v1alpha1.CategoryKernel}, got.Source.Categories)
			if test.want == "" {
				require.Empty(t, got.Findings)
				return
			}
			require.Len(t, got.Findings, 1)
			require.Equal(t, test.want, got.Findings[0].Reason)
			require.Equal(t, test.wantSeverity, got.Findings[0].Severity)
			require.Equal(t, test.wantMessage, got.Findings[0].Message)
		})
	}
}

func TestOneBadEntryRejectsTheFile(t *testing.T) {
	const good = "- {conditionType: A, conditionStatus: \"True\", finding: {category: Kernel, severity: Fatal}}\n"
	for name, test := range map[string]struct {
		text string
		want []string // parts of the error
	}{
		"no list":              {text: "conditionType: A", want: []string{"YAML list", "- conditionType:"}},
		"an unknown field":     {text: good + "- {conditionType: A, conditionStatus: \"True\", tolerate: 5m, finding: {category: Kernel, severity: Fatal}}", want: []string{"entry 2", "tolerate", "write only"}},
		"a field twice":        {text: "- conditionType: A\n  conditionType: B\n", want: []string{"conditionType"}},
		"an unknown category":  {text: good + "- {conditionType: A, conditionStatus: \"True\", finding: {category: Kernal, severity: Fatal}}", want: []string{"entry 2", `"Kernal"`, "write Kernel, Networking"}},
		"a person's category":  {text: "- {conditionType: A, conditionStatus: \"True\", finding: {category: Request, severity: Fatal}}", want: []string{"entry 1", "write Kernel, Networking"}},
		"an unknown severity":  {text: "- {conditionType: A, conditionStatus: \"True\", finding: {category: Kernel, severity: Critical}}", want: []string{"entry 1", `"Critical"`, "write Fatal or Warning"}},
		"an unknown status":    {text: "- {conditionType: A, conditionStatus: Yes please, finding: {category: Kernel, severity: Fatal}}", want: []string{"entry 1", `"Yes please"`, "write True, False or Unknown"}},
		"a status unquoted":    {text: "- {conditionType: A, conditionStatus: true, finding: {category: Kernel, severity: Fatal}}", want: []string{"entry 1", "conditionStatus"}},
		"no condition":         {text: "- {conditionStatus: \"True\", finding: {category: Kernel, severity: Fatal}}", want: []string{"entry 1", "conditionType is missing"}},
		"a reason of no shape": {text: "- {conditionType: A, conditionStatus: \"True\", finding: {reason: not good, category: Kernel, severity: Fatal}}", want: []string{"entry 1", `"not good"`, "leave it out"}},
		"a bad expression":     {text: good + good + "- {conditionType: A, conditionStatus: \"True\", reasonPattern: \"a(\", finding: {category: Kernel, severity: Fatal}}", want: []string{"entry 3", `"a("`, "correct it"}},
	} {
		t.Run(name, func(t *testing.T) {
			mappings, err := load(t, test.text)
			require.Empty(t, mappings)
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
	for name, text := range map[string]string{"the good entry alone is read": good, "an empty file adds nothing": "", "a file of comments adds nothing": "# none\n"} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, text)
			require.NoError(t, err)
		})
	}
	_, err := LoadNodeConditions(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
