package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// defaultSocket is where a running agent answers whether it lives.
const defaultSocket = "/run/autorepair/agent.sock"

// memoryLimit keeps the heap small where GOMEMLIMIT says nothing else, in bytes: half of what a flood may take.
const memoryLimit = 32 << 20

const configExample = `  # detectors: settings of single detectors, and which are off
  detectors:
    disabled: [network-settings]
    interfaces: {include: ["bond[0-9]+"]}
  # reasons: changes to the catalogue (see "agent rules")
  reasons:
    OOMKilling: {disabled: true}
    SoftLockup: {fatalFrom: 5 in 10m}
  # rules: log lines of your own
  rules:
    - reason: DiskOnFire
      category: Storage
      severity: Fatal
      confirm: 2 in 5m
      clears: quiet 30m
      explanation: The disk controller reports smoke.
      stream: kmsg
      pattern: 'acmeraid (?P<device>\w+): smoke detected'
      subject: ${device}
      sample: 'acmeraid raid0: smoke detected'
      counterSample: 'acmeraid raid0: smoke test passed'`

func newRun() *cobra.Command {
	o := agent.Options{}
	var root, level string
	command := &cobra.Command{
		Use:   "run",
		Short: "State the truth about this node in its NodeHealth, until stopped",
		Long: "run looks at the node that it runs on and writes what it finds into the NodeHealth of that node.\n" +
			"It remedies nothing. The configuration file is taken in again when it changes, as a whole or not at all:",
		Example: configExample,
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			log, err := logger(command.ErrOrStderr(), level)
			if err != nil {
				return err
			}
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(memoryLimit)
			}
			o.Host = host.New(root)
			return agent.Run(command.Context(), o, clock.RealClock{}, log)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of the Node (default: the environment's NODE_NAME)")
	flags.StringVar(&root, "host-root", "/", "where the host's files are, such as /host in a container that mounts them there")
	flags.StringVar(&o.ConfigFile, "config", "", "configuration file, see the example; empty for the defaults")
	flags.StringVar(&o.StateFile, "state-file", "/var/lib/autorepair/agent.json", "where open faults are kept over restarts; empty for nowhere")
	flags.StringVar(&o.LivenessSocket, "liveness-socket", defaultSocket, "unix socket that says whether the agent lives (see healthz); empty for none")
	flags.StringVar(&o.MetricsBindAddress, "metrics-bind-address", "127.0.0.1:9464", "address of the metrics endpoint, 0 for none")
	flags.BoolVar(&o.MetricsSecure, "metrics-secure", true, "serve metrics on other addresses than the loopback's only with --metrics-cert-dir; false: to everybody who reaches the address")
	flags.StringVar(&o.MetricsCertDir, "metrics-cert-dir", "", "folder with tls.crt and tls.key for the metrics endpoint, and ca.crt, by which its clients have to show a certificate; taken in again when they change; empty for plain HTTP")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; empty for KUBECONFIG or the service account of the pod")
	flags.DurationVar(&o.Heartbeat, "heartbeat-interval", agent.HeartbeatInterval, "longest time between two writes")
	// Shorter ones are for tests: they cost the API server a write each.
	_ = flags.MarkHidden("heartbeat-interval")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return command
}

// logger writes JSON lines, client-go's among them.
func logger(out io.Writer, level string) (*slog.Logger, error) {
	var parsed slog.Level
	if err := parsed.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level=%q is not a level: write debug, info, warn or error", level)
	}
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: parsed}))
	klog.SetSlogLogger(log)
	return log, nil
}
