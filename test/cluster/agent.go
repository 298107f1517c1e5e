package cluster

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/test/machine"
)

// AgentServiceAccount that the chart gives the agents.
var AgentServiceAccount = client.ObjectKey{Namespace: "autorepair-agent", Name: "autorepair-agent"}

// AgentOptions of one agent.
type AgentOptions struct {
	// Node that it plays the agent of.
	Node string
	// Machine that it runs on; nil: this one.
	Machine *machine.Machine
	// APIServer is the URL at which it finds the API server; empty: straight, or from its machine over the machine's.
	APIServer string
	// CA is the certificate authority, as PEM, of APIServer where that is not the API server's own.
	CA []byte
	// Config is the text of its configuration file.
	Config string
	// HostRoot is where it looks for the host's files; empty: "/".
	HostRoot string
	// Heartbeat is the longest time between two writes; 0: the agent's own.
	Heartbeat time.Duration
	// Args that are given besides.
	Args []string
}

// Agent is a running agent.
type Agent struct {
	*Program
	// ConfigFile may be changed while it runs.
	ConfigFile string
	// StateFile is what it keeps over restarts.
	StateFile string

	socket string
}

// StartAgent runs bin/agent as its ServiceAccount, with a token bound to the Node, and waits until it lives. What an
// agent of the same Node has kept on disk it finds again.
func (c *Cluster) StartAgent(ctx context.Context, o AgentOptions) (*Agent, error) {
	dir := filepath.Join(c.Dir, "agents", o.Node)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the agent's folder, %w", err)
	}
	node := &corev1.Node{}
	if err := c.Client.Get(ctx, client.ObjectKey{Name: o.Node}, node); err != nil {
		return nil, fmt.Errorf("reading the agent's Node, %w", err)
	}
	way := kubeconfigOptions{path: filepath.Join(dir, "kubeconfig"), node: node, apiServer: o.APIServer, ca: o.CA}
	start := starter(here)
	if o.Machine != nil {
		way.apiServer, start = cmp.Or(o.APIServer, "https://"+o.Machine.APIServer()), o.Machine.Start
	}
	kubeconfig, err := c.kubeconfigOf(ctx, AgentServiceAccount, way)
	if err != nil {
		return nil, err
	}
	a := &Agent{ConfigFile: filepath.Join(dir, "config.yaml"), StateFile: filepath.Join(dir, "state.json")}
	if err := os.WriteFile(a.ConfigFile, []byte(o.Config), 0o600); err != nil {
		return nil, fmt.Errorf("writing the agent's configuration, %w", err)
	}
	// The path of a socket has at most 107 bytes, which that of a folder in a working tree may take up alone.
	if a.socket, err = a.shortSocket(o.Node); err != nil {
		return nil, err
	}
	binary, err := Binary("agent")
	if err != nil {
		return nil, err
	}
	args := []string{
		"run", "--node-name=" + o.Node, "--kubeconfig=" + kubeconfig, "--config=" + a.ConfigFile,
		"--state-file=" + a.StateFile, "--liveness-socket=" + a.socket, "--metrics-bind-address=0",
	}
	if o.HostRoot != "" {
		args = append(args, "--host-root="+o.HostRoot)
	}
	if o.Heartbeat != 0 {
		args = append(args, "--heartbeat-interval="+o.Heartbeat.String())
	}
	cmd := exec.Command(binary, append(args, o.Args...)...) //nolint:gosec // our own program
	a.Program, err = startProgram(ctx, "agent", filepath.Join(dir, "agent.log"), cmd, start, func(ctx context.Context) bool { return a.Healthz(ctx) == nil })
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (*Agent) shortSocket(node string) (string, error) {
	dir := filepath.Join(os.TempDir(), "autorepair-agents")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making the folder of the agent's socket, %w", err)
	}
	return filepath.Join(dir, node+".sock"), nil
}

// Healthz asks the agent whether it lives, as the liveness probe of its pod does.
func (a *Agent) Healthz(ctx context.Context) error {
	binary, err := Binary("agent")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, "healthz", "--liveness-socket="+a.socket) //nolint:gosec // our own program
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("asking the agent whether it lives, %w: %s", err, out)
	}
	return nil
}

// Stop ends it as Kubernetes would, and removes its socket.
func (a *Agent) Stop() error {
	defer os.Remove(a.socket) //nolint:errcheck // one that is left is in nobody's way
	return a.Program.Stop()
}
