package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// rootWithProc is a root of the host that has this computer's processes and nothing else.
func rootWithProc(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.Symlink("/proc", filepath.Join(root, "proc")))
	return root
}

// criRuntime is a container runtime that is well, or does not answer.
type criRuntime struct {
	cri.UnimplementedRuntimeServiceServer
	hangs atomic.Bool
}

func (r *criRuntime) Status(ctx context.Context, _ *cri.StatusRequest) (*cri.StatusResponse, error) {
	if r.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{{Type: cri.RuntimeReady, Status: true}}}}, nil
}

func TestARuntimeThatDoesNotAnswerIsAConditionUntilItDoes(t *testing.T) {
	t.Parallel()
	s := begin(t, "cri")
	root := rootWithProc(t)
	socket := filepath.Join(root, "run/containerd/containerd.sock")
	require.NoError(t, os.MkdirAll(filepath.Dir(socket), 0o755))
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	runtime, server := &criRuntime{}, grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, runtime)
	go server.Serve(listener) //nolint:errcheck // it ends with the test
	t.Cleanup(server.Stop)
	s.run(func(o *cluster.AgentOptions) {
		o.Machine, o.HostRoot = nil, root
		o.Config = "detectors: {disabled: [kernel-log, systemd-units], containerRuntime: {interval: 1s, timeout: 1s}}\nreasons: {ContainerdFailed: {confirm: 3s}}\n"
	})
	s.says(v1alpha1.CategoryContainerRuntime, metav1.ConditionTrue)
	runtime.hangs.Store(true)
	require.Equal(t, "ContainerdFailed", s.says(v1alpha1.CategoryContainerRuntime, metav1.ConditionFalse).Reason)
	runtime.hangs.Store(false)
	s.says(v1alpha1.CategoryContainerRuntime, metav1.ConditionTrue)
}

func TestAKubeletThatIsNotWellIsAConditionUntilItIs(t *testing.T) {
	t.Parallel()
	s := begin(t, "kublet")
	var sick atomic.Bool
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			http.Error(w, "[-]syncloop failed: reason withheld\nhealthz check failed", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "ok")
	}))
	t.Cleanup(kubelet.Close)
	s.run(func(o *cluster.AgentOptions) {
		o.Machine, o.HostRoot = nil, rootWithProc(t)
		o.Config = fmt.Sprintf("detectors: {disabled: [kernel-log], kubeletHealth: {url: %q, interval: 1s}}\nreasons: {KubeletFailed: {confirm: 3s}}\n", kubelet.URL+"/healthz")
	})
	s.says(v1alpha1.CategoryKubelet, metav1.ConditionTrue)
	s.sees("kubelet-health")
	sick.Store(true)
	require.Equal(t, "KubeletFailed", s.says(v1alpha1.CategoryKubelet, metav1.ConditionFalse).Reason)
	sick.Store(false)
	s.says(v1alpha1.CategoryKubelet, metav1.ConditionTrue)
}

// sees waits until a source has looked and can see.
func (s *scenario) sees(source string) {
	s.Helper()
	s.eventually("the source "+source+" sees", func() error {
		for _, other := range s.health().Sources {
			if other.Name == source && other.State == v1alpha1.SourceActive {
				return nil
			}
		}
		return fmt.Errorf("it does not")
	})
}

func TestACgroupOfTheNodeAtItsLimitOfProcessesIsAConditionUntilTheyEnd(t *testing.T) {
	t.Parallel()
	s := begin(t, "pids")
	root := rootWithProc(t)
	own := filepath.Join("/sys/fs/cgroup/pids", fmt.Sprintf("autorepair-agent-%d", os.Getpid()))
	group := filepath.Join(own, "kubepods.slice")
	if err := os.MkdirAll(group, 0o755); err != nil || os.WriteFile(filepath.Join(group, "pids.max"), []byte("20"), 0o600) != nil {
		t.Skipf("SKIPPED: needs root and the pids controller of cgroup v1 at /sys/fs/cgroup/pids: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(group); _ = os.Remove(own) })
	require.NoError(t, os.MkdirAll(filepath.Join(root, "sys/fs/cgroup"), 0o755))
	require.NoError(t, os.Symlink(own, filepath.Join(root, "sys/fs/cgroup/pids")))
	s.run(func(o *cluster.AgentOptions) {
		o.Machine, o.HostRoot = nil, root
		o.Config = "detectors: {disabled: [kernel-log, kubelet-log, containerd-log]}\nreasons: {ForkFailedOutOfPIDs: {clears: poll}}\n"
	})
	s.says(v1alpha1.CategoryKernel, metav1.ConditionTrue)
	end := forkUntilItFails(t, group)
	require.Equal(t, "ForkFailedOutOfPIDs", s.says(v1alpha1.CategoryKernel, metav1.ConditionFalse).Reason)
	end()
	s.says(v1alpha1.CategoryKernel, metav1.ConditionTrue)
}

// forkUntilItFails starts processes in a cgroup until the kernel refuses, and gives what ends them.
func forkUntilItFails(t *testing.T, group string) (end func()) {
	t.Helper()
	shell := exec.Command("sh", "-c", "read go; while sleep 1000 & do :; done; wait")
	start, err := shell.StdinPipe()
	require.NoError(t, err)
	shell.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, shell.Start())
	procs := filepath.Join(group, "cgroup.procs")
	require.NoError(t, os.WriteFile(procs, []byte(strconv.Itoa(shell.Process.Pid)), 0o600))
	_, err = start.Write([]byte("go\n"))
	require.NoError(t, err)
	end = func() {
		for range 100 {
			text, err := os.ReadFile(procs)
			if err != nil || len(strings.Fields(string(text))) == 0 {
				break
			}
			for _, pid := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(pid); err == nil {
					_ = syscall.Kill(n, syscall.SIGKILL) // one of ours: the cgroup is
				}
			}
		}
		_ = shell.Wait()
	}
	t.Cleanup(end)
	return end
}
