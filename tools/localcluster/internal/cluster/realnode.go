package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/install"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/linked"
	"github.com/autorepair-sh/karpenter-autorepair/tools/localcluster/internal/realnode"
)

// RealNodeSettings are of the one node with a real kubelet.
type RealNodeSettings struct {
	// Images is the directory of the OCI archives that it has instead of a registry.
	Images string `json:"images"`
	// NodeName and ProviderID are what Karpenter gave it; the latter is empty without Karpenter.
	NodeName   string `json:"nodeName,omitempty"`
	ProviderID string `json:"providerID,omitempty"`
}

// Validate returns the settings with an absolute path, or what is wrong and what to do about it.
func (r RealNodeSettings) Validate(repository string) (RealNodeSettings, error) {
	if missing := realnode.Missing(); missing != "" {
		return r, errors.New("--real-node: " + missing)
	}
	if r.Images == "" {
		r.Images = filepath.Join(repository, "bin", "images")
	}
	path, err := filepath.Abs(r.Images)
	if err != nil {
		return r, fmt.Errorf("resolving --real-node-images, %w", err)
	}
	r.Images = path
	return r, nil
}

func (c *Cluster) node() realnode.Node { return realnode.In(c.Directory) }

func (c *Cluster) kubelet() realnode.Kubelet {
	return realnode.Kubelet{
		NodeName:             c.state.RealNode.NodeName,
		ProviderID:           c.state.RealNode.ProviderID,
		Karpenter:            c.state.RealNode.ProviderID != "",
		CertificateAuthority: c.credentials().CertificateAuthority,
		Kubeconfig:           c.credentials().Kubeconfig(Kubelet),
	}
}

func containerdProgram(c *Cluster) []string {
	return append(c.inNode(), c.node().ContainerdCommand()...)
}

func kubeletProgram(c *Cluster) []string {
	self, err := os.Executable()
	if err != nil {
		self = "/proc/self/exe"
	}
	return append(append(c.inNode(), self, runPart, linked.Kubelet), c.node().KubeletArguments(c.kubelet())...)
}

// inNode are the arguments with which a program is started in the node's mount namespace: that of the programs that
// run there, or a new one where none does.
func (c *Cluster) inNode() []string {
	for _, name := range []string{Containerd, Kubelet} {
		if record := c.state.Processes[name]; record.Alive(c.owner(name)) {
			return []string{c.Directory, strconv.Itoa(record.PID)}
		}
	}
	return []string{c.Directory, "0"}
}

func serviceProgram(c *Cluster) []string {
	return []string{net.JoinHostPort("127.0.0.1", c.port(portAPIServer))}
}

// nodeParts are the parts of the real node.
func nodeParts() []part {
	var which []part
	for _, p := range parts {
		if p.ofNode {
			which = append(which, p)
		}
	}
	return which
}

// bringUpNode starts the real node, unless all of it runs. Of a node that runs in part nothing is kept.
func (c *Cluster) bringUpNode(ctx context.Context, client *install.Client) error {
	if c.state.RealNode == nil {
		return nil
	}
	complete := true
	for _, p := range nodeParts() {
		complete = complete && c.alive(p)
	}
	if complete {
		return nil
	}
	step := c.Progress.Begin("real node", "starting containerd and the kubelet")
	if err := c.startNode(ctx, client); err != nil {
		step.Failed()
		return err
	}
	step.Done("Ready, %s", c.state.RealNode.NodeName)
	return nil
}

func (c *Cluster) startNode(ctx context.Context, client *install.Client) error {
	if err := c.removeNode(ctx); err != nil {
		return err
	}
	if err := c.nameNode(ctx, client); err != nil {
		return err
	}
	kubelet := c.kubelet()
	server := "https://127.0.0.1:" + c.port(portAPIServer)
	if err := c.credentials().CreateNode(kubelet.Kubeconfig, server, kubelet.NodeName); err != nil {
		return err
	}
	if err := c.node().Prepare(kubelet); err != nil {
		return err
	}
	if err := c.startParts(ctx, Containerd, Service); err != nil {
		return err
	}
	if _, err := realnode.Import(ctx, c.state.Processes[Containerd].PID, c.state.RealNode.Images); err != nil {
		return errors.Join(err, c.checkAlive(Containerd))
	}
	if err := c.startParts(ctx, Kubelet); err != nil {
		return err
	}
	if err := client.WaitRealNode(ctx, kubelet.NodeName, kubelet.Karpenter); err != nil {
		return errors.Join(fmt.Errorf("%w, the kubelet's log is %s", err, c.logPath(Kubelet)), c.checkAlive(Containerd, Service, Kubelet))
	}
	return nil
}

// nameNode asks Karpenter for an instance where there is one, and else takes a name.
func (c *Cluster) nameNode(ctx context.Context, client *install.Client) error {
	if c.state.RealNode.NodeName != "" {
		return nil
	}
	if c.state.Karpenter.Mode == KarpenterNone {
		c.state.RealNode.NodeName = realnode.Name
		return c.save()
	}
	var err error
	c.state.RealNode.NodeName, c.state.RealNode.ProviderID, err = client.AskForRealNode(ctx, realnode.Name)
	if err != nil {
		return err
	}
	return c.save()
}

// removeNode ends the real node and takes away all that it has on this machine; nothing to do is success. The pods go
// first, while those who are told of their end still live.
func (c *Cluster) removeNode(ctx context.Context) error {
	kubelet, err := findPart(Kubelet)
	if err != nil {
		return err
	}
	if err := c.end(c.atOnce(ctx), kubelet); err != nil {
		return err
	}
	if err := c.node().KillPods(ctx); err != nil {
		return err
	}
	which := nodeParts()
	for i := range which {
		which[i].spared = "" // their pods have gone
	}
	if err := c.end(c.atOnce(ctx), which...); err != nil {
		return err
	}
	return c.node().Remove()
}
