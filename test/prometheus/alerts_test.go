package prometheus

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// ruleFile is a Prometheus rule file, as far as it is used here.
type ruleFile struct {
	Groups []struct {
		Name  string  `json:"name"`
		Rules []alert `json:"rules"`
	} `json:"groups"`
}

type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

const alertsFile = "charts/autorepair/files/alerts.yaml"

func readAlerts(t *testing.T) ruleFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), alertsFile))
	require.NoError(t, err)
	var rules ruleFile
	require.NoError(t, yaml.UnmarshalStrict(text, &rules))
	return rules
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var out []alert
	for _, group := range readAlerts(t).Groups {
		out = append(out, group.Rules...)
	}
	require.NotEmpty(t, out)
	return out
}

// debian gives a program of Debian's package prometheus.
func debian(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed: apt-get install --no-install-recommends prometheus", program)
	}
	return path
}

// testFile is what promtool tests, as far as it is looked at here.
type testFile struct {
	Tests []struct {
		Name          string `json:"name"`
		AlertRuleTest []struct {
			AlertName string `json:"alertname"`
			ExpAlerts []any  `json:"exp_alerts"`
		} `json:"alert_rule_test"`
	} `json:"tests"`
}

func TestEachAlertFiresAndDoesNot(t *testing.T) {
	promtool := debian(t, "promtool")
	checked, err := exec.Command(promtool, "check", "rules", filepath.Join(root(t), alertsFile)).CombinedOutput() //nolint:gosec // found on the path
	require.NoError(t, err, "%s", checked)

	// promtool compares annotations word by word; the words are for people, and may change.
	rules := readAlerts(t)
	for _, group := range rules.Groups {
		for i := range group.Rules {
			group.Rules[i].Annotations = nil
		}
	}
	dir := t.TempDir()
	text, err := yaml.Marshal(rules)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "alerts.yaml"), text, 0o600))
	tests, err := os.ReadFile("alerts.test.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "test.yaml"), tests, 0o600))
	run := exec.Command(promtool, "test", "rules", "test.yaml") //nolint:gosec // found on the path
	run.Dir = dir
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestEachAlertHasATestThatItFiresAndOneThatItDoesNot(t *testing.T) {
	text, err := os.ReadFile("alerts.test.yaml")
	require.NoError(t, err)
	var file testFile
	require.NoError(t, yaml.Unmarshal(text, &file))
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		fired := map[string]bool{}
		for _, at := range test.AlertRuleTest {
			fired[at.AlertName] = fired[at.AlertName] || len(at.ExpAlerts) > 0
		}
		for name, did := range fired {
			if did {
				fires[name] = true
			} else {
				quiet[name] = true
			}
		}
	}
	for _, a := range alerts(t) {
		require.True(t, fires[a.Alert], "no test lets %s fire", a.Alert)
		require.True(t, quiet[a.Alert], "no test has something like it that does not let %s fire", a.Alert)
		delete(fires, a.Alert)
	}
	require.Empty(t, fires, "tests of alerts that do not exist")
}

const runbooks = "https://github.com/autorepair-sh/karpenter-autorepair/blob/main/docs/runbooks/"

// A person who is woken up needs a command to begin with, on the page that the alert names.
func TestEachAlertHasARunbookThatBeginsWithACommand(t *testing.T) {
	dir := filepath.Join(root(t), "docs", "runbooks")
	left := map[string]bool{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		left[entry.Name()] = true
	}
	delete(left, "README.md")
	for _, a := range alerts(t) {
		require.Equal(t, runbooks+a.Alert+".md", a.Annotations["runbook_url"], a.Alert)
		require.NotEmpty(t, a.Annotations["summary"], a.Alert)
		require.NotEmpty(t, a.Annotations["description"], a.Alert)
		require.Contains(t, []string{"critical", "warning"}, a.Labels["severity"], a.Alert)
		text, err := os.ReadFile(filepath.Join(dir, a.Alert+".md"))
		require.NoError(t, err)
		begins := regexp.MustCompile("^# " + a.Alert + "\n\n```\n(\\$ )?kubectl autorepair (explain|status)")
		require.Regexp(t, begins, string(text), a.Alert)
		for _, heading := range []string{"\n## What it means\n", "\n## What to do\n", "\n## When it is no trouble\n"} {
			require.Equal(t, 1, strings.Count(string(text), heading), "%s: %s", a.Alert, heading)
		}
		delete(left, a.Alert+".md")
	}
	require.Empty(t, left, "runbooks without an alert")
}
