package realnode

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// cniPlugins is where Debian keeps them.
const cniPlugins = "/usr/lib/cni"

const containerdConfiguration = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.tracing"]

[grpc]
  address = "` + Socket + `"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + sandboxImage + `"
  # Where even root may not put its processes out of the reach of the kernel's OOM killer, as on some build machines.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + cniPlugins + `"
    conf_dir = "/etc/cni/net.d"
`

const cniConfiguration = `{
  "cniVersion": "1.0.0",
  "name": "localcluster",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "` + bridge + `",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "/var/lib/cni/networks",
        "ranges": [[{"subnet": "` + podRange + `"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    }
  ]
}
`

// Kubelet is what its configuration depends on.
type Kubelet struct {
	// NodeName that it registers.
	NodeName string
	// ProviderID of its instance; empty where it has none.
	ProviderID string
	// Karpenter waits for it, so that it registers with Karpenter's taint against pods that come too early.
	Karpenter bool
	// CertificateAuthority is the path of that of its clients.
	CertificateAuthority string
	// Kubeconfig is the path of its own.
	Kubeconfig string
}

func (n Node) kubeletConfiguration() string    { return filepath.Join(n.Directory, "kubelet.yaml") }
func (n Node) containerdConfiguration() string { return filepath.Join(n.Directory, "containerd.toml") }

// ContainerdCommand is what runs containerd, and with it the node's namespace.
func (n Node) ContainerdCommand() []string {
	return []string{"containerd", "--config", n.containerdConfiguration()}
}

// KubeletArguments are those of the linked kubelet.
func (n Node) KubeletArguments(k Kubelet) []string {
	return []string{
		"--config=" + n.kubeletConfiguration(),
		"--kubeconfig=" + k.Kubeconfig,
		"--hostname-override=" + k.NodeName,
		"--node-ip=" + Address,
		"--v=2",
	}
}

func (n Node) writeKubelet(k Kubelet) error {
	configuration := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"address":    Address,
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": k.CertificateAuthority},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"containerRuntimeEndpoint": "unix://" + Socket,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               n.group(),
		// Of the first version, as where systemd is not the first process.
		"failCgroupV1":           false,
		"failSwapOn":             false,
		"enforceNodeAllocatable": []string{},
		// Rules of the machine's firewall are none of a test's business.
		"makeIPTablesUtilChains": false,
		"volumePluginDir":        filepath.Join(n.Directory, "volume-plugins"),
		// A machine that is short of disk is short of it for other reasons than the few pods of a test.
		"evictionHard":                map[string]string{"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
		"imageGCHighThresholdPercent": 100,
		"nodeStatusUpdateFrequency":   "5s",
		"registryPullQPS":             0,
		"shutdownGracePeriod":         "0s",
	}
	if k.ProviderID != "" {
		configuration["providerID"] = k.ProviderID
	}
	if k.Karpenter {
		configuration["registerWithTaints"] = []map[string]string{{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}}
	}
	text, err := yaml.Marshal(configuration)
	if err != nil {
		return fmt.Errorf("encoding the kubelet's configuration, %w", err)
	}
	if err := os.WriteFile(n.kubeletConfiguration(), text, 0o600); err != nil {
		return fmt.Errorf("writing the kubelet's configuration, %w", err)
	}
	return nil
}
