// Package operator wires the controller: its flags, client, cache, manager and metrics.
package operator

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"go.uber.org/zap/zapcore"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// Options are the controller's flags.
type Options struct {
	Kubeconfig              string
	LeaderElect             bool
	LeaderElectionNamespace string
	MetricsBindAddress      string
	MetricsSecure           bool
	MetricsCertDir          string
	HealthProbeBindAddress  string
	KubeAPIQPS              float32
	KubeAPIBurst            int
	LogLevel                string
	LogFormat               string
	KarpenterVersion        string
	KarpenterNodeRepair     string
	RebootProviders         []string
	NodeConditionsConfig    string
}

// AddFlags binds the flags, with their defaults.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; empty for KUBECONFIG, the service account of the pod, or ~/.kube/config")
	flags.BoolVar(&o.LeaderElect, "leader-elect", true, "let one replica act at a time, by the lease "+v1alpha1.LeaseName)
	flags.StringVar(&o.LeaderElectionNamespace, "leader-election-namespace", "", "namespace of the lease; empty for the namespace of the pod (required outside of a cluster)")
	flags.StringVar(&o.MetricsBindAddress, "metrics-bind-address", ":8080", "address of the metrics endpoint, 0 for none")
	flags.BoolVar(&o.MetricsSecure, "metrics-secure", true, "serve metrics over TLS, to those alone whose token the API server knows and whom RBAC lets get the path /metrics; false: over HTTP to everybody")
	flags.StringVar(&o.MetricsCertDir, "metrics-cert-dir", "", "folder with tls.crt and tls.key for the metrics endpoint, taken in again when they change; empty for a certificate made at the start")
	flags.StringVar(&o.HealthProbeBindAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz, 0 for none")
	flags.Float32Var(&o.KubeAPIQPS, "kube-api-qps", 200, "requests per second to the API server")
	flags.IntVar(&o.KubeAPIBurst, "kube-api-burst", 400, "requests to the API server at once")
	flags.StringVar(&o.LogLevel, "log-level", "info", "debug, info or error")
	flags.StringVar(&o.LogFormat, "log-format", "json", "json or console")
	flags.StringVar(&o.KarpenterVersion, "karpenter-version", "", "version of the Karpenter beside, for example 1.15.0; empty to read it from its Deployment")
	flags.StringVar(&o.NodeConditionsConfig, "node-conditions-config", "", "file that makes findings of more Node conditions, a YAML list of {conditionType, conditionStatus, reasonPattern, finding: {reason, category, severity, message}}; it comes before what is known anyway")
	flags.StringVar(&o.KarpenterNodeRepair, "karpenter-node-repair", "auto", "whether Karpenter's feature gate NodeRepair is on: true, false, or auto to read it from its Deployment")
	flags.StringSliceVar(&o.RebootProviders, "reboot-providers", snapshot.RebootProviders, "API groups of the node classes whose provider reboots instances in place (the method Reboot of its CloudProvider, from Karpenter 1.15); nodes of others are replaced instead, since Karpenter ends a NodeClaim that it cannot reboot")
}

// Validate says what to write instead of a value that cannot be used.
func (o *Options) Validate() error {
	if _, err := zapcore.ParseLevel(o.LogLevel); err != nil {
		return fmt.Errorf("--log-level=%q is not a level: write debug, info or error", o.LogLevel)
	}
	if o.LogFormat != "json" && o.LogFormat != "console" {
		return fmt.Errorf("--log-format=%q is not a format: write json or console", o.LogFormat)
	}
	if o.KubeAPIQPS <= 0 || o.KubeAPIBurst <= 0 {
		return fmt.Errorf("--kube-api-qps=%v and --kube-api-burst=%d must be above 0: leave them out for the defaults", o.KubeAPIQPS, o.KubeAPIBurst)
	}
	if o.MetricsCertDir != "" && !o.MetricsSecure {
		return errors.New("--metrics-cert-dir is of no use with --metrics-secure=false: leave one of them out")
	}
	_, err := o.readOverrides()
	return err
}

func (o *Options) readOverrides() (snapshot.Overrides, error) {
	return snapshot.ReadOverrides(o.KarpenterVersion, o.KarpenterNodeRepair, o.RebootProviders) //nolint:wrapcheck // says all there is to say
}

// karpenterOverrides are what the flags say about Karpenter, once Validate has found nothing against them.
func (o *Options) karpenterOverrides() snapshot.Overrides {
	overrides, _ := o.readOverrides()
	return overrides
}
