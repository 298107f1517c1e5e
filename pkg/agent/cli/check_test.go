package cli

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/golden"
)

// moment of a test, which is as long as any other, so that columns stay where they are.
var moment = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// check runs it on a machine of recorded files: a GPU that fell off the bus, memory with errors, and a filesystem of
// the container runtime that stopped taking writes. What a program wrote into the kernel's log is not among them.
func check(t *testing.T, output string) string {
	t.Helper()
	text, err := execute("", "check", "--wait=100ms", "-o", output,
		"--host-root", filepath.Join("testdata", "machine"), "--config", filepath.Join("testdata", "recorded-files-only.yaml"))
	require.NoError(t, err)
	return text
}

func TestCheckPrints(t *testing.T) {
	for name, output := range map[string]string{"check.txt": "table", "check.json": "json"} {
		t.Run(name, func(t *testing.T) {
			got := moment.ReplaceAllString(check(t, output), "2026-01-02T03:04:05Z")
			golden.Require(t, filepath.Join("testdata", name), got)
		})
	}
}

func TestCheckPrintsForProgramsWhatANodeHealthHolds(t *testing.T) {
	var health v1alpha1.NodeHealth
	require.NoError(t, json.Unmarshal([]byte(check(t, "json")), &health))
	require.NotEmpty(t, health.Sources)
	require.NotEmpty(t, health.Findings)
	_, err := execute("", "check", "-o", "yaml")
	require.ErrorContains(t, err, "write table or json")
}
