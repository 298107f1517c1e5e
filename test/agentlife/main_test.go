package agentlife

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent/cli"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// asAgent makes the program of the tests the agent, so that none needs to be built.
const asAgent = "AUTOREPAIR_TEST_AS_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := cli.New("test").ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// enough time for anything that must come, on a machine that others use too.
const enough = 60 * time.Second

// node is a machine of recorded files with an agent on it.
type node struct {
	t     *testing.T
	root  Root
	api   *API
	o     Options
	agent *Process
}

// newNode gives a machine on which no agent runs yet.
func newNode(t *testing.T) *node {
	t.Helper()
	root, err := NewRoot(t.TempDir())
	require.NoError(t, err)
	n := &node{t: t, root: root, api: NewAPI()}
	t.Cleanup(n.api.Close)
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	n.o = Options{Command: []string{self}, Env: []string{asAgent + "=1"}, API: n.api, Dir: dir, HostRoot: string(root), ConfigFile: filepath.Join(dir, "agent.yaml")}
	n.configure("reasons: {}\n")
	return n
}

func (n *node) configure(text string) {
	n.t.Helper()
	require.NoError(n.t, os.WriteFile(n.o.ConfigFile+".next", []byte(text), 0o600))
	require.NoError(n.t, os.Rename(n.o.ConfigFile+".next", n.o.ConfigFile))
}

func (n *node) start() {
	n.t.Helper()
	var err error
	n.agent, err = Start(n.o)
	require.NoError(n.t, err)
	agent := n.agent
	n.t.Cleanup(func() { agent.Kill() })
}

// eventually waits until it is so; what says what that is.
func (n *node) eventually(what string, so func() bool) {
	n.t.Helper()
	if err := WaitFor(n.t.Context(), enough, so); err != nil {
		log, _ := os.ReadFile(filepath.Join(n.o.Dir, "agent.log"))
		health, _ := n.api.Newest()
		require.NoError(n.t, err, "%s; NodeHealth: %+v\nlog: %s", what, health, log)
	}
}

// sees waits until the source says that it can see.
func (n *node) sees(source string) {
	n.t.Helper()
	n.eventually(source+" can see", func() bool {
		s, ok := n.api.Source(source)
		return ok && s.State == v1alpha1.SourceActive
	})
}

func (n *node) usage() Usage {
	n.t.Helper()
	u, err := n.agent.Usage()
	require.NoError(n.t, err)
	return u
}

func (n *node) goroutines() int {
	n.t.Helper()
	count, err := n.agent.Metric(n.t.Context(), "go_goroutines")
	require.NoError(n.t, err)
	return int(count)
}
