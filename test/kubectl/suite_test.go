// Package kubectl proves that kubectl autorepair says what is so, and does what it says, on a real control plane beside
// an unmodified Karpenter.
package kubectl

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/cli"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/golden"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

var (
	// shared is the cluster of all tests; nil where there is none. They run one after the other, in the order of their
	// files: the last one ends what the others need.
	shared     *cluster.Cluster
	controller *cluster.Controller
	// bare is what status said before anything was installed.
	bare error
)

// patience is how long the cluster may take; generous, since the machine may be slow.
const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(suite.Run(m, cluster.Options{Name: "kubectl", Bare: true}, begin))
}

func begin(ctx context.Context, c *cluster.Cluster) (func(), error) {
	shared = c
	_, _, bare = call(ctx, nil, "status")
	if err := c.Install(ctx); err != nil {
		return nil, err //nolint:wrapcheck // it says what it did
	}
	var err error
	controller, err = c.StartController(ctx)
	return func() { _ = controller.Stop() }, err //nolint:wrapcheck // it says what it did
}

// needCluster skips where there is no cluster.
func needCluster(t *testing.T) context.Context {
	t.Helper()
	suite.Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// call runs one command line against the shared cluster, and gives what it printed to both streams.
func call(ctx context.Context, config func(*genericclioptions.ConfigFlags), args ...string) (out, errOut string, err error) {
	var stdout, stderr bytes.Buffer
	options := cli.NewOptions(strings.NewReader(""), &stdout, &stderr)
	options.Config.KubeConfig = &shared.Kubeconfig
	if config != nil {
		config(options.Config)
	}
	root := cli.NewRoot(options)
	root.SetArgs(append([]string{"--kubeconfig", shared.Kubeconfig}, args...))
	err = root.ExecuteContext(ctx)
	return stdout.String(), stderr.String(), err
}

// say runs a command line that has to succeed without a warning.
func say(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, err := call(ctx, nil, args...)
	require.NoError(t, err, "%v", args)
	require.Empty(t, errOut, "%v", args)
	return out
}

// differing are what is another in each run.
var differing = []struct {
	text *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
	{regexp.MustCompile(`kwok-([a-z]+)-[a-z0-9-]+`), "<node of $1>"},
	{regexp.MustCompile(`\b(storm|done|held|stuck)-[a-z0-9]{8,10}-[a-z0-9]{5}\b`), "<pod of $1>"},
	{regexp.MustCompile(`\b(storm|done|held|stuck)-[a-z0-9]{5}-\d+\b`), "<repair of $1>"},
	{regexp.MustCompile(`\b(storm|done|held|stuck)-[a-z0-9]{5,8}\b`), "<nodeclaim of $1>"},
	{regexp.MustCompile(`controller \S+ in namespace`), "controller <name> in namespace"},
	{regexp.MustCompile(`\b\d+[smhd](\d+[smh])?\b`), "<age>"},
	{regexp.MustCompile(` +\n`), "\n"},
	{regexp.MustCompile(`  +`), "  "},
}

// requireGolden compares what people read with testdata/name, but for names, times and the widths of columns.
func requireGolden(t *testing.T, name, got string) {
	t.Helper()
	for _, d := range differing {
		got = d.text.ReplaceAllString(got, d.as)
	}
	golden.Require(t, filepath.Join("testdata", name), got)
}

// eventually waits until what is wanted is so.
func eventually(ctx context.Context, t *testing.T, what string, so func() error) {
	t.Helper()
	suite.Within(ctx, t, patience, what, func() error {
		if controller.Ended() { // as it does where it cannot renew its lease; its Deployment would start it again
			var err error
			if controller, err = shared.StartController(ctx); err != nil {
				return err //nolint:wrapcheck // it says what it did
			}
		}
		return so()
	})
}
