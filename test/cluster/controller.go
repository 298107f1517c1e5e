package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/crds"
)

// ServiceAccount that the chart gives the controller.
var ServiceAccount = client.ObjectKey{Namespace: "autorepair", Name: "autorepair-controller"}

// installed are the kinds of the chart that Install applies: namespaces, rights, and the lock of the leader. The tests
// run controller and agents as processes, and bring policies of their own.
var installed = []string{
	"Namespace", "Lease", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}

// Install applies the CRDs and the rights of the controller and of the agents, and waits until the CRDs are served.
func (c *Cluster) Install(ctx context.Context) error {
	if err := c.InstallCRDs(ctx); err != nil {
		return err
	}
	rendered, err := RenderChart(ctx)
	if err != nil {
		return err
	}
	if err := c.EnsureNamespace(ctx, ServiceAccount.Namespace); err != nil {
		return err
	}
	return c.applyThose(ctx, rendered, func(o *unstructured.Unstructured) bool {
		_, hook := o.GetAnnotations()["helm.sh/hook"]
		return !hook && slices.Contains(installed, o.GetKind())
	})
}

// Definitions are our CustomResourceDefinitions, in the order of their names.
func Definitions() ([]*unstructured.Unstructured, error) {
	files, err := fs.Glob(crds.FS, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing CRDs, %w", err)
	}
	var definitions []*unstructured.Unstructured
	for _, file := range files {
		text, err := crds.FS.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading %s, %w", file, err)
		}
		objects, err := readObjects(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("reading %s, %w", file, err)
		}
		definitions = append(definitions, objects...)
	}
	return definitions, nil
}

// InstallCRDs applies the CRDs and waits until they are served.
func (c *Cluster) InstallCRDs(ctx context.Context) error {
	definitions, err := Definitions()
	if err != nil {
		return err
	}
	for _, definition := range definitions {
		if err := c.apply(ctx, definition); err != nil {
			return fmt.Errorf("applying CRD %s, %w", definition.GetName(), err)
		}
	}
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		list := &apiextensionsv1.CustomResourceDefinitionList{}
		if err := c.Client.List(ctx, list); err != nil {
			return false, fmt.Errorf("listing CRDs, %w", err)
		}
		established := 0
		for _, crd := range list.Items {
			for _, condition := range crd.Status.Conditions {
				if crd.Spec.Group == "autorepair.sh" && condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
					established++
				}
			}
		}
		return established == len(definitions), nil
	})
}

// applyThose applies what is wanted of a rendered chart.
func (c *Cluster) applyThose(ctx context.Context, rendered Rendered, wanted func(*unstructured.Unstructured) bool) error {
	for _, object := range rendered {
		if !wanted(object) {
			continue
		}
		if err := c.apply(ctx, object); err != nil {
			return fmt.Errorf("applying %s %s of the chart, %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

func (c *Cluster) apply(ctx context.Context, object *unstructured.Unstructured) error {
	return c.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("autorepair-install"), client.ForceOwnership) //nolint:wrapcheck // the caller names it
}

// Controller is a running controller process.
type Controller struct {
	*Program
	// Metrics is the URL of its metrics: over TLS, with a certificate of its own making, for bearers of a token that may
	// get /metrics; with the argument --metrics-secure=false for everybody.
	Metrics string
}

// StartController runs bin/controller as its ServiceAccount and waits until it is ready.
func (c *Cluster) StartController(ctx context.Context, args ...string) (*Controller, error) {
	return c.StartControllerThrough(ctx, "", nil, args...)
}

// StartControllerThrough is StartController with apiServer, the URL of a way to the API server, instead of the API
// server's own, and the certificate authority, as PEM, of that way; empty: straight.
func (c *Cluster) StartControllerThrough(ctx context.Context, apiServer string, ca []byte, args ...string) (*Controller, error) {
	kubeconfig, err := c.kubeconfigOf(ctx, ServiceAccount, kubeconfigOptions{path: filepath.Join(c.Dir, "controller.kubeconfig"), apiServer: apiServer, ca: ca})
	if err != nil {
		return nil, err
	}
	binary, err := Binary("controller")
	if err != nil {
		return nil, err
	}
	metrics, probes, err := twoFreePorts()
	if err != nil {
		return nil, err
	}
	args = append([]string{
		fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", metrics),
		fmt.Sprintf("--health-probe-bind-address=127.0.0.1:%d", probes),
		"--leader-election-namespace=" + ServiceAccount.Namespace,
	}, args...)
	cmd := exec.Command(binary, args...) //nolint:gosec // our own program
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	program, err := startProgram(ctx, "controller", filepath.Join(c.Dir, "logs", "controller.log"), cmd, here, isReady(probes))
	if err != nil {
		return nil, err
	}
	scheme := "https"
	if slices.Contains(args, "--metrics-secure=false") {
		scheme = "http"
	}
	return &Controller{Program: program, Metrics: fmt.Sprintf("%s://127.0.0.1:%d/metrics", scheme, metrics)}, nil
}

// StartControllerAs runs bin/controller with the arguments of a pod's container, as the pod's ServiceAccount, until ready
// says that it is; its kubeconfig and its log are named by name.
func (c *Cluster) StartControllerAs(ctx context.Context, account client.ObjectKey, name string, ready func(context.Context) bool, args ...string) (*Program, error) {
	kubeconfig, err := c.kubeconfigOf(ctx, account, kubeconfigOptions{path: filepath.Join(c.Dir, name+".kubeconfig")})
	if err != nil {
		return nil, err
	}
	binary, err := Binary("controller")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, args...) //nolint:gosec // our own program
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	return startProgram(ctx, "controller", filepath.Join(c.Dir, "logs", name+".log"), cmd, here, ready)
}

func twoFreePorts() (first, second int, err error) {
	a, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, fmt.Errorf("finding a free port, %w", err)
	}
	defer a.Close() //nolint:errcheck // only held to find the port
	b, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, fmt.Errorf("finding a free port, %w", err)
	}
	defer b.Close() //nolint:errcheck // only held to find the port
	return a.Addr().(*net.TCPAddr).Port, b.Addr().(*net.TCPAddr).Port, nil
}
