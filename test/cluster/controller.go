package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/crds"
)

// ServiceAccount that the manifests give the controller.
var ServiceAccount = client.ObjectKey{Namespace: "autorepair", Name: "autorepair-controller"}

// manifests that an installation applies, Deployment and default policy apart: the tests run the controller as a
// process, and bring policies of their own.
var manifests = []string{"00-namespace.yaml", "serviceaccount.yaml", "clusterrole.yaml", "clusterrolebinding.yaml", "role.yaml", "rolebinding.yaml"}

// Install applies the CRDs and the rights of the controller, and waits until the CRDs are served.
func (c *Cluster) Install(ctx context.Context) error {
	if err := c.InstallCRDs(ctx); err != nil {
		return err
	}
	for _, file := range manifests {
		if err := c.ApplyManifest(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

// InstallCRDs applies the CRDs and waits until they are served.
func (c *Cluster) InstallCRDs(ctx context.Context) error {
	files, err := fs.Glob(crds.FS, "*.yaml")
	if err != nil {
		return fmt.Errorf("listing CRDs, %w", err)
	}
	for _, file := range files {
		text, err := crds.FS.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading %s, %w", file, err)
		}
		if err := c.apply(ctx, text); err != nil {
			return fmt.Errorf("applying %s, %w", file, err)
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
		return established == len(files), nil
	})
}

// ApplyManifest applies one file of charts/autorepair/manifests.
func (c *Cluster) ApplyManifest(ctx context.Context, file string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, "charts", "autorepair", "manifests", file))
	if err != nil {
		return fmt.Errorf("reading manifest, %w", err)
	}
	if err := c.apply(ctx, text); err != nil {
		return fmt.Errorf("applying %s, %w", file, err)
	}
	return nil
}

func (c *Cluster) apply(ctx context.Context, text []byte) error {
	for _, document := range strings.Split(string(text), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			return fmt.Errorf("reading YAML, %w", err)
		}
		if len(object.Object) == 0 {
			continue
		}
		if err := c.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("autorepair-install"), client.ForceOwnership); err != nil {
			return err //nolint:wrapcheck // the caller names the file
		}
	}
	return nil
}

// Controller is a running controller process.
type Controller struct {
	// Log is the path of its log.
	Log string
	// Metrics is the URL of its metrics.
	Metrics string

	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended, with exit set
	exit error
	file *os.File
}

// StartController runs bin/controller as its ServiceAccount and waits until it is ready.
func (c *Cluster) StartController(ctx context.Context, args ...string) (*Controller, error) {
	kubeconfig, err := c.serviceAccountKubeconfig(ctx)
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
	started := &Controller{
		Log:     filepath.Join(c.Dir, "logs", "controller.log"),
		Metrics: fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics),
		done:    make(chan struct{}),
	}
	started.file, err = os.OpenFile(started.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the controller's log, %w", err)
	}
	args = append([]string{
		fmt.Sprintf("--metrics-bind-address=127.0.0.1:%d", metrics),
		fmt.Sprintf("--health-probe-bind-address=127.0.0.1:%d", probes),
		"--leader-election-namespace=" + ServiceAccount.Namespace,
	}, args...)
	started.cmd = exec.Command(binary, args...) //nolint:gosec // our own program
	started.cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	started.cmd.Stdout, started.cmd.Stderr = started.file, started.file
	// The controller must not outlive whoever started it.
	started.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := started.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the controller, %w", err)
	}
	go func() {
		started.exit = started.cmd.Wait()
		close(started.done)
	}()
	ready := fmt.Sprintf("http://127.0.0.1:%d/readyz", probes)
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 60*time.Second, true, func(ctx context.Context) (bool, error) {
		select {
		case <-started.done:
			return false, fmt.Errorf("running the controller (its log is %s), %w", started.Log, errors.Join(errors.New("it ended"), started.exit))
		default:
		}
		response, err := http.Get(ready) //nolint:gosec,noctx // our own port
		if err != nil {
			return false, nil // not up yet
		}
		defer response.Body.Close() //nolint:errcheck // nothing was written
		return response.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		tail, _ := os.ReadFile(started.Log)
		started.Kill()
		return nil, fmt.Errorf("waiting for the controller, %w\n%s", err, lastBytes(tail, 2000))
	}
	return started, nil
}

// Stop ends the controller as Kubernetes would, and waits for it.
func (c *Controller) Stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the controller, %w", err)
	}
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		c.Kill()
	}
	return c.file.Close()
}

// Kill ends the controller without a word.
func (c *Controller) Kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// ResidentMiB is the memory that the controller holds now.
func (c *Controller) ResidentMiB() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the controller's memory, %w", err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	if err != nil {
		return 0, fmt.Errorf("reading the controller's memory, %w", err)
	}
	return pages * float64(os.Getpagesize()) / (1 << 20), nil
}

func (c *Cluster) serviceAccountKubeconfig(ctx context.Context) (string, error) {
	account := &corev1.ServiceAccount{}
	if err := c.Client.Get(ctx, ServiceAccount, account); err != nil {
		return "", fmt.Errorf("reading the controller's ServiceAccount, %w", err)
	}
	seconds := int64(24 * 60 * 60)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if err := c.Client.SubResource("token").Create(ctx, account, request); err != nil {
		return "", fmt.Errorf("asking for the controller's token, %w", err)
	}
	config, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig, %w", err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	}
	path := filepath.Join(c.Dir, "controller.kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("writing the controller's kubeconfig, %w", err)
	}
	return path, nil
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

func lastBytes(text []byte, n int) string {
	if len(text) > n {
		text = text[len(text)-n:]
	}
	return string(text)
}
