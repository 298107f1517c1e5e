package kubectl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/cli"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// TestKubectlFindsThePlugin calls it through kubectl, and lets kubectl complete its arguments.
func TestKubectlFindsThePlugin(t *testing.T) {
	ctx := needCluster(t)
	binary, err := cluster.Binary("kubectl-autorepair")
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		t.Skip("SKIPPED: needs bin/kubectl-autorepair: run make build")
	}
	path := t.TempDir()
	require.NoError(t, os.Symlink(binary, filepath.Join(path, "kubectl-autorepair")))
	require.NoError(t, os.Symlink(binary, filepath.Join(path, cli.CompleteName)))
	t.Setenv("PATH", path+string(os.PathListSeparator)+os.Getenv("PATH"))

	out, err := shared.Kubectl(ctx, "autorepair", "status")
	require.NoError(t, err)
	require.Contains(t, out, "0 sick")
	out, err = shared.Kubectl(ctx, "__complete", "autorepair", "pa")
	require.NoError(t, err)
	require.Contains(t, out, "pause\tLet no repair start")
	out, err = shared.Kubectl(ctx, "__complete", "autorepair", "pause", "")
	require.NoError(t, err)
	require.Contains(t, out, "nodepool\npolicy\neverything\n")
	_, err = shared.Kubectl(ctx, "autorepair", "pause", "nothing")
	require.ErrorContains(t, err, `Error: "nothing" is none of them: say what: node NAME, nodepool NAME, policy NAME, or everything`)
}
