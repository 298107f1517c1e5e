// Package cluster runs a local cluster (tools/localcluster) for the tests, the demo and the benchmarks, and the
// controller beside it with no more rights than its ClusterRole gives.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	_ "sigs.k8s.io/karpenter/kwok/apis/v1alpha1" // registers KWOKNodeClasses in the scheme of client-go
	_ "sigs.k8s.io/karpenter/pkg/apis/v1"        // registers NodePools and NodeClaims there

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Options of a cluster.
type Options struct {
	// Name keeps clusters apart that run side by side.
	Name string
	// Karpenter is "stock" (default), "none", or the path of another build of Karpenter.
	Karpenter string
	// FeatureGates of Karpenter, for example NodeRepair=true.
	FeatureGates string
	// Audit lists namespaces whose service accounts' requests the API server notes in logs/audit.log of the folder.
	Audit []string
	// Bare says that the suite installs nothing of ours.
	Bare bool
	// RealNode adds a node with a real kubelet, as root, with the images of bin/images.
	RealNode bool
	// Out gets what localcluster says while it works. nil: discarded unless it ends with an error.
	Out io.Writer
}

// Cluster is a running local cluster.
type Cluster struct {
	Name   string
	Config *rest.Config
	// Client reads and writes without a cache, as an administrator.
	Client client.WithWatch
	// Kubeconfig is the path of the administrator's.
	Kubeconfig string
	// Dir holds what belongs to the cluster; logs of the controller are put there.
	Dir string
}

// ErrNoBinary says that localcluster has not been built.
var ErrNoBinary = errors.New("localcluster is not built: run make localcluster, and set LOCALCLUSTER to bin/localcluster")

// Root is the root of the repository, found from the working directory upward.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the working directory, %w", err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module github.com/autorepair-sh/karpenter-autorepair\n")) {
			return dir, nil
		}
	}
	return "", errors.New("finding the repository: no go.mod of it above the working directory")
}

// Binary is the path of a program in bin/; LOCALCLUSTER and the like in upper case override it.
func Binary(name string) (string, error) {
	if path := os.Getenv(strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); path != "" {
		return path, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "bin", name), nil
}

// Scheme knows every type that the tests use.
func Scheme() (*runtime.Scheme, error) {
	scheme := clientgoscheme.Scheme
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme, %w", err)
		}
	}
	return scheme, nil
}

// Up starts the cluster, or finds it running.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	args := []string{"up"}
	switch o.Karpenter {
	case "", "stock":
	case "none":
		args = append(args, "--karpenter=none")
	default:
		args = append(args, "--karpenter-binary="+o.Karpenter)
	}
	if o.FeatureGates != "" {
		args = append(args, "--karpenter-feature-gates="+o.FeatureGates)
	}
	if len(o.Audit) > 0 {
		args = append(args, "--audit="+strings.Join(o.Audit, ","))
	}
	if o.RealNode {
		args = append(args, "--real-node")
	}
	c := &Cluster{Name: o.Name}
	if err := c.localcluster(ctx, o.Out, args...); err != nil {
		return nil, err
	}
	var path bytes.Buffer
	if err := c.localcluster(ctx, &path, "kubeconfig"); err != nil {
		return nil, err
	}
	c.Kubeconfig = strings.TrimSpace(path.String())
	c.Dir = filepath.Dir(c.Kubeconfig)
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig of cluster %q, %w", o.Name, err)
	}
	config.QPS, config.Burst = 500, 1000
	c.Config = config
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	c.Client, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("building a client for cluster %q, %w", o.Name, err)
	}
	return c, nil
}

// Down ends the cluster and removes what belongs to it.
func (c *Cluster) Down(ctx context.Context) error { return c.localcluster(ctx, nil, "down") }

// Part stops, starts, restarts or kills a part of the cluster: verb is "stop", "start" or "kill".
func (c *Cluster) Part(ctx context.Context, verb, part string) error {
	return c.localcluster(ctx, nil, verb, part)
}

// Kubectl runs kubectl as an administrator and gives its output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := c.localcluster(ctx, &out, append([]string{"kubectl"}, args...)...)
	return out.String(), err
}

func (c *Cluster) localcluster(ctx context.Context, out io.Writer, args ...string) error {
	binary, err := Binary("localcluster")
	if err != nil {
		return err
	}
	if _, err := os.Stat(binary); err != nil {
		return ErrNoBinary
	}
	root, err := Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, append([]string{"--name=" + c.Name}, args...)...)
	cmd.Dir = root
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Writer(&both), &both
	if out != nil {
		cmd.Stdout = io.MultiWriter(out, &both)
		if args[0] == "up" {
			cmd.Stderr = io.MultiWriter(out, &both)
		}
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running localcluster %s, %w\n%s", strings.Join(args, " "), err, both.String())
	}
	return nil
}

// EnsureNamespace makes a namespace where there is none.
func (c *Cluster) EnsureNamespace(ctx context.Context, name string) error {
	namespace := &corev1.Namespace{}
	namespace.Name = name
	if err := c.Client.Create(ctx, namespace); client.IgnoreAlreadyExists(err) != nil {
		return fmt.Errorf("making namespace %q, %w", name, err)
	}
	return nil
}
