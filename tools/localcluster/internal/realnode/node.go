// Package realnode is a real node of a local cluster: containerd, the kubelet and a CNI bridge on this machine, with
// files, control groups, links and a mount namespace of their own, so that nothing of the machine's is touched and all
// of it can be taken away again.
package realnode

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	// Name of the Node where Karpenter does not give one, and of its NodeClaim.
	Name = "real-node"
	// Address of the node: on a link of its own, so that it is nobody else's.
	Address = "10.243.0.1"
	// ServiceAddress is the address of the Service kubernetes, first of the range of services.
	ServiceAddress = "10.96.0.1"
	// podRange is the addresses of the node's pods.
	podRange = "10.244.0.0/24"
	// link carries the node's addresses, bridge its pods.
	link   = "localcluster0"
	bridge = "localcluster1"

	// Socket of containerd, as programs in the node find it.
	Socket = "/run/containerd/containerd.sock"
	// sandboxImage is what make images calls the pause image.
	sandboxImage = "ghcr.io/autorepair-sh/karpenter-autorepair/pause:latest"
)

// Node is the real node of the cluster in a directory.
type Node struct {
	// Directory holds all files of the node, and nothing else.
	Directory string
	// Owner is the directory of the cluster.
	Owner string
}

// In gives the node of the cluster in an absolute directory, there or not.
func In(cluster string) Node { return Node{Directory: filepath.Join(cluster, "node"), Owner: cluster} }

// own are the places of the machine that are the node's own while one looks from inside the node.
var own = []string{
	"/etc/cni/net.d", "/run/containerd", "/run/netns", "/var/lib/autorepair", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/log",
}

// settings of the kernel as a node has them. The kubelet and the CNI plugin would set them; that they seem to be so is
// enough for both, and the machine keeps its own.
var settings = map[string]string{
	"kernel/keys/root_maxbytes": "25000000",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"net/ipv4/ip_forward":       "1", // nothing is forwarded: pods speak to the machine alone
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
}

// Missing says what the machine lacks for a real node, with what to do about it; empty where it lacks nothing.
func Missing() string {
	if os.Geteuid() != 0 {
		return "a real node needs root"
	}
	var missing []string
	for program, pkg := range map[string]string{"containerd": "containerd", "runc": "runc", "ip": "iproute2", cniPlugins + "/bridge": "containernetworking-plugins"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) > 0 {
		return "a real node needs the Debian packages " + strings.Join(missing, " ")
	}
	return ""
}

// Prepare writes the configuration of the node's programs and makes its links and control groups.
func (n Node) Prepare(k Kubelet) error {
	if missing := Missing(); missing != "" {
		return errors.New(missing)
	}
	if err := n.Claim(); err != nil {
		return err
	}
	if err := os.MkdirAll(n.Directory, 0o700); err != nil {
		return fmt.Errorf("making the node's directory, %w", err)
	}
	for _, write := range []func() error{n.writeFiles, n.linkLogs, func() error { return n.writeKubelet(k) }, n.makeLinks, n.makeGroups} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

func (n Node) writeFiles() error {
	for _, place := range own {
		if err := os.MkdirAll(n.behind(place), 0o755); err != nil {
			return fmt.Errorf("making the node's files, %w", err)
		}
	}
	files := map[string]string{
		filepath.Join(n.behind("/etc/cni/net.d"), "10-bridge.conflist"): cniConfiguration,
		n.containerdConfiguration():                                     containerdConfiguration,
	}
	for name, value := range settings {
		files[n.setting(name)] = value + "\n"
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("making the node's files, %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("writing the node's configuration, %w", err)
		}
	}
	return nil
}

// linkLogs has the logs of the node's programs lie where they do on a node without a journal.
func (n Node) linkLogs() error {
	for _, name := range []string{"containerd.log", "kubelet.log"} {
		log := filepath.Join(n.Owner, "logs", name)
		if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
			return fmt.Errorf("making the directory of logs, %w", err)
		}
		file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("making a log, %w", err)
		}
		if err := errors.Join(file.Close(), os.Link(log, filepath.Join(n.behind("/var/log"), name))); err != nil {
			return fmt.Errorf("linking a log into the node, %w", err)
		}
	}
	return nil
}

// behind is where the machine keeps what the node sees at an absolute path.
func (n Node) behind(path string) string { return filepath.Join(n.Directory, "files", path) }

func (n Node) setting(name string) string { return filepath.Join(n.Directory, "settings", name) }

// mark is a short name that no other cluster's node has.
func (n Node) mark() string {
	sum := sha256.Sum256([]byte(n.Owner))
	return hex.EncodeToString(sum[:4])
}
