// Package firstpath walks the way that the README shows to its first readers: from git clone to an explained repair.
package firstpath

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/docs"
)

const (
	// origin is where readers clone from; the test lets git take this repository in its place.
	origin = "https://github.com/autorepair-sh/karpenter-autorepair"
	// clone is the folder that git makes of it.
	clone = "karpenter-autorepair"
	// patience is far more than the way takes where its modules have been compiled before: some three minutes on two cores.
	patience = 20 * time.Minute
)

// way gives the block of the README that is marked as the first path.
func way(t *testing.T, root string) string {
	t.Helper()
	blocks, err := docs.Blocks(root, "README.md")
	require.NoError(t, err)
	for _, block := range blocks {
		if block.Mark == "first path" {
			require.Equal(t, "sh", block.Language)
			return block.Text
		}
	}
	require.Fail(t, "README.md has no block that is marked <!-- first path -->")
	return ""
}

func TestTheREADMEsFirstPath(t *testing.T) {
	root, err := cluster.Root()
	require.NoError(t, err)
	script := way(t, root)
	require.Contains(t, script, "git clone "+origin)
	switch {
	case testing.Short() || os.Getenv("LOCALCLUSTER") == "":
		t.Skip("SKIPPED: builds everything in a fresh clone and runs the demo in it: run make test-cluster")
	case !isRepository(t, root):
		t.Skip("SKIPPED: there is no git repository to clone")
	}
	dir := t.TempDir()
	t.Cleanup(func() { down(t, filepath.Join(dir, clone)) })
	out, err := walk(t, dir, root, script)
	require.NoError(t, err, out)
	require.Contains(t, out, "All as promised.")
	for command, want := range map[string][]string{
		"kubectl-autorepair history": {"ForkFailedOutOfPIDs", "ReadonlyFilesystem", "Succeeded"},
		"kubectl-autorepair explain": {"which this one replaces: Replace for ", "the node was fenced off from new pods", "was ready for use", "the node was gone", "repair succeeded"},
	} {
		said := commandOutput(t, out, command)
		for _, words := range want {
			require.Contains(t, said, words, command)
		}
	}
}

func isRepository(t *testing.T, root string) bool {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "status", "--porcelain").Output()
	if err == nil && len(out) > 0 {
		t.Log("what is not committed is not part of the clone, and is not tried")
	}
	return err == nil
}

// walk runs the script as a reader would type it, line by line in one shell, and gives what it printed: each line of the
// script as it is written, and its output below.
func walk(t *testing.T, dir, root, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	file := filepath.Join(t.TempDir(), "first-path.sh")
	require.NoError(t, os.WriteFile(file, []byte(script), 0o600))
	// -v prints lines as they are read, before anything in them is replaced.
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-v", file)
	cmd.Dir, cmd.WaitDelay = dir, time.Minute
	cmd.Env = append(withoutOurs(os.Environ()),
		"GIT_CONFIG_COUNT=2",
		fmt.Sprintf("GIT_CONFIG_KEY_0=url.%s.insteadOf", root), "GIT_CONFIG_VALUE_0="+origin,
		"GIT_CONFIG_KEY_1=safe.directory", "GIT_CONFIG_VALUE_1=*")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err //nolint:wrapcheck // the caller shows what was printed
}

// withoutOurs leaves out what our Makefile tells tests: a reader's shell does not have it.
func withoutOurs(environ []string) []string {
	var out []string
	for _, variable := range environ {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "LOCALCLUSTER") || strings.HasPrefix(name, "MAKE") || name == "MFLAGS" || name == "KUBECONFIG" {
			continue
		}
		out = append(out, variable)
	}
	return out
}

// commandOutput gives what came between the line that begins with a command and the next line of the script.
func commandOutput(t *testing.T, out, command string) string {
	t.Helper()
	lines := strings.Split(out, "\n")
	// From the end: the demo names the commands too.
	for i := len(lines) - 1; i >= 0; i-- {
		if !strings.HasPrefix(lines[i], command) {
			continue
		}
		var said []string
		for _, line := range lines[i+1:] {
			if strings.HasPrefix(line, "kubectl-autorepair ") || strings.HasPrefix(line, "localcluster ") {
				break
			}
			said = append(said, line)
		}
		return strings.Join(said, "\n")
	}
	require.Fail(t, "nothing was printed for "+command, out)
	return ""
}

// The way itself is long, so its parts are tried in seconds.
func TestAWayIsWalkedLineByLine(t *testing.T) {
	root, err := cluster.Root()
	require.NoError(t, err)
	if !isRepository(t, root) {
		t.Skip("SKIPPED: there is no git repository to clone")
	}
	t.Setenv("LOCALCLUSTER", "ours")
	script := "git clone --quiet " + origin + " && cd " + clone + `
test -f README.md && ! env | grep ^LOCALCLUSTER
kubectl-autorepair() { echo "  kubectl-autorepair $1: $2"; }
kubectl-autorepair history some
kubectl-autorepair explain "$(git log -1 --format=%H)"
`
	out, err := walk(t, t.TempDir(), root, script)
	require.NoError(t, err, out)
	require.Equal(t, "  kubectl-autorepair history: some", commandOutput(t, out, "kubectl-autorepair history"))
	require.Regexp(t, `^  kubectl-autorepair explain: [0-9a-f]{40}\n$`, commandOutput(t, out, "kubectl-autorepair explain"))

	out, err = walk(t, t.TempDir(), root, "echo one\nfalse\necho two\n")
	require.Error(t, err, "a line that fails ends the way")
	require.Equal(t, "echo one\none\nfalse\n", out)
}

// down ends the demo's cluster where the way broke off before its last line.
func down(t *testing.T, dir string) {
	t.Helper()
	localcluster := filepath.Join(dir, "bin", "localcluster")
	if _, err := os.Stat(filepath.Join(dir, ".localcluster", "demo", "state.json")); err != nil {
		return
	}
	cmd := exec.Command(localcluster, "--name=demo", "down")
	cmd.Dir, cmd.Env = dir, withoutOurs(os.Environ())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ending the demo's cluster, %v\n%s", err, out)
	}
}
