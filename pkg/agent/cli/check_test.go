package cli

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

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
			file := filepath.Join("testdata", name)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err, "run the test with -update")
			require.Equal(t, string(want), got, "if that is meant, run the test with -update")
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
