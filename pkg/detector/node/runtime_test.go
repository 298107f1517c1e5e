package node

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// runtimeFake is a container runtime that says what the test wants.
type runtimeFake struct {
	cri.UnimplementedRuntimeServiceServer
	answer atomic.Pointer[cri.StatusResponse]
	err    atomic.Pointer[error]
	hang   atomic.Bool
}

func (f *runtimeFake) Status(ctx context.Context, _ *cri.StatusRequest) (*cri.StatusResponse, error) {
	if f.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := f.err.Load(); err != nil {
		return nil, *err
	}
	return f.answer.Load(), nil
}

func (f *runtimeFake) conditions(ready, network bool) {
	f.answer.Store(&cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{
		{Type: cri.RuntimeReady, Status: ready, Reason: "R", Message: "runtime text"},
		{Type: cri.NetworkReady, Status: network, Reason: "NetworkPluginNotReady", Message: "cni plugin not initialized"},
	}}})
}

// serve until the function it gives is called.
func (f *runtimeFake) serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return server.Stop
}

func runtimeNew(t *testing.T, root string) *Runtime {
	t.Helper()
	r := NewRuntime(host.New(root), RuntimeOptions{Timeout: metav1.Duration{Duration: 300 * time.Millisecond}})
	t.Cleanup(r.drop)
	return r
}

const runtimeSocket = "run/containerd/containerd.sock"

func runtimeLook(t *testing.T, r *Runtime) tracking.Look {
	t.Helper()
	look, err := r.Look(t.Context())
	require.NoError(t, err)
	return look
}

func runtimeMessage(t *testing.T, r *Runtime) string {
	t.Helper()
	look := runtimeLook(t, r)
	require.Len(t, look.Faults, 1)
	assert.Equal(t, ReasonContainerdFailed, look.Faults[0].Reason)
	return look.Faults[0].Message
}

func TestRuntimeSays(t *testing.T) {
	unavailable := status.Error(codes.Unavailable, "server is not initialized yet")
	denied := status.Error(codes.PermissionDenied, "not for you")
	for name, tc := range map[string]struct {
		ready, network bool
		err            error
		hang           bool
		silent         bool
		wantMessage    string
		wantEvidence   []string
		wantErr        string
	}{
		"ready does nothing":                             {ready: true, network: true},
		"a network that is not ready does nothing":       {ready: true, network: false},
		"not ready is a fault":                           {network: true, wantMessage: "says that it is not ready", wantEvidence: []string{"RuntimeReady=false R: runtime text"}},
		"not ready keeps the network's word":             {wantMessage: "says that it is not ready", wantEvidence: []string{"RuntimeReady=false R: runtime text", "NetworkReady=false NetworkPluginNotReady: cni plugin not initialized"}},
		"an error is a fault":                            {err: unavailable, wantMessage: "answers with an error", wantEvidence: []string{"server is not initialized yet"}},
		"a call that hangs is a fault":                   {hang: true, wantMessage: "has not answered within 300ms"},
		"being refused the right cannot be seen":         {err: denied, wantErr: "not for you"},
		"saying nothing of readiness is no answer":       {silent: true, wantErr: "does not say whether it is ready"},
		"a service that has never spoken cannot be seen": {err: status.Error(codes.Unimplemented, "unknown service"), wantErr: "does not offer the Container Runtime Interface v1"},
	} {
		t.Run(name, func(t *testing.T) {
			root := serviceDir(t)
			fake := &runtimeFake{}
			fake.conditions(tc.ready, tc.network)
			fake.hang.Store(tc.hang)
			if tc.err != nil {
				fake.err.Store(&tc.err)
			}
			if tc.silent {
				fake.answer.Store(&cri.StatusResponse{})
			}
			fake.serve(t, filepath.Join(root, runtimeSocket))
			look, err := runtimeNew(t, root).Look(t.Context())
			switch {
			case tc.wantErr != "":
				require.ErrorContains(t, err, tc.wantErr)
				require.NotErrorIs(t, err, detector.ErrNotPresent)
			case tc.wantMessage != "":
				require.NoError(t, err)
				require.Len(t, look.Faults, 1)
				assert.Equal(t, "The container runtime at /"+runtimeSocket+" "+tc.wantMessage+".", look.Faults[0].Message)
				assert.Equal(t, tc.wantEvidence, look.Faults[0].Evidence)
			default:
				require.NoError(t, err)
				assert.Empty(t, look.Faults)
			}
		})
	}
}

func TestRuntimeGoesAndComesBack(t *testing.T) {
	root := serviceDir(t)
	path := filepath.Join(root, runtimeSocket)
	r := runtimeNew(t, root)
	_, err := r.Look(t.Context())
	require.ErrorIs(t, err, detector.ErrNotPresent, "no socket has been there")

	fake := &runtimeFake{}
	fake.conditions(true, true)
	stop := fake.serve(t, path)
	assert.Empty(t, runtimeLook(t, r).Faults)

	stop() // removes the socket
	assert.Contains(t, runtimeMessage(t, r), "has vanished")

	t.Run("another agent in the same boot misses it too", func(t *testing.T) {
		next := runtimeNew(t, root)
		next.Resume(r.Cursor(), true)
		assert.Contains(t, runtimeMessage(t, next), "has vanished")
	})
	t.Run("another boot does not", func(t *testing.T) {
		next := runtimeNew(t, root)
		next.Resume(r.Cursor(), false)
		_, err := next.Look(t.Context())
		require.ErrorIs(t, err, detector.ErrNotPresent)
	})

	stop = fake.serve(t, path)
	assert.Empty(t, runtimeLook(t, r).Faults)
	stop()

	// A socket that outlives who listened, as after SIGKILL.
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	listener.SetUnlinkOnClose(false)
	require.NoError(t, listener.Close())
	assert.Contains(t, runtimeMessage(t, r), "connections are refused")
	require.NoError(t, os.Remove(path))

	fake.serve(t, path)
	assert.Empty(t, runtimeLook(t, r).Faults)
}

func TestRuntimeThatAcceptsAndNeverReplies(t *testing.T) {
	root := serviceDir(t)
	path := filepath.Join(root, runtimeSocket)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	r := runtimeNew(t, root)
	for range 3 {
		assert.Contains(t, runtimeMessage(t, r), "has not answered within 300ms")
	}
	require.NoError(t, listener.Close())
	fake := &runtimeFake{}
	fake.conditions(true, true)
	fake.serve(t, path)
	require.Eventually(t, func() bool {
		look, err := r.Look(t.Context())
		return err == nil && len(look.Faults) == 0
	}, 20*time.Second, 10*time.Millisecond, "one that answers again is well again")
}

func TestRuntimeStopsAnsweringAndAnswersAgain(t *testing.T) {
	root := serviceDir(t)
	fake := &runtimeFake{}
	fake.conditions(true, true)
	fake.serve(t, filepath.Join(root, runtimeSocket))
	r := runtimeNew(t, root)
	assert.Empty(t, runtimeLook(t, r).Faults)
	fake.hang.Store(true)
	assert.Contains(t, runtimeMessage(t, r), "has not answered")
	fake.hang.Store(false)
	assert.Empty(t, runtimeLook(t, r).Faults)
}

func TestRuntimeThatIsNoLongerOfferedIsAFault(t *testing.T) {
	root := serviceDir(t)
	fake := &runtimeFake{}
	fake.conditions(true, true)
	fake.serve(t, filepath.Join(root, runtimeSocket))
	r := runtimeNew(t, root)
	assert.Empty(t, runtimeLook(t, r).Faults)
	gone := status.Error(codes.Unimplemented, "unknown service runtime.v1.RuntimeService")
	fake.err.Store(&gone)
	assert.Contains(t, runtimeMessage(t, r), "no longer offers")
}

func TestRuntimePassesOverAContainerdThatServesDocker(t *testing.T) {
	root := serviceDir(t)
	docker, shim := &runtimeFake{}, &runtimeFake{}
	without := status.Error(codes.Unimplemented, "unknown service runtime.v1.RuntimeService")
	docker.err.Store(&without)
	docker.serve(t, filepath.Join(root, runtimeSocket))
	shim.conditions(false, true)
	shim.serve(t, filepath.Join(root, "run/cri-dockerd.sock"))
	assert.Contains(t, runtimeMessage(t, runtimeNew(t, root)), "/run/cri-dockerd.sock says that it is not ready")
}

func TestRuntimeWhoseSocketIsForbiddenCannotBeSeen(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to look as another user")
	}
	root := serviceDir(t)
	fake := &runtimeFake{}
	fake.conditions(false, false)
	path := filepath.Join(root, runtimeSocket)
	fake.serve(t, path)
	require.NoError(t, os.Chmod(path, 0o660))
	for at := root; at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
		require.NoError(t, os.Chmod(at, 0o755))
	}
	command := exec.Command(os.Args[0], "-test.run=TestRuntimeAsAnotherUser", "-test.v")
	command.Env = append(os.Environ(), "RUNTIME_TEST_ROOT="+root)
	command.Dir = root
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	copied := filepath.Join(root, "node.test")
	serviceCopy(t, os.Args[0], copied)
	command.Path = copied
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "--- PASS: TestRuntimeAsAnotherUser")
}

// TestRuntimeAsAnotherUser is run by the test above.
func TestRuntimeAsAnotherUser(t *testing.T) {
	root := os.Getenv("RUNTIME_TEST_ROOT")
	if root == "" {
		t.Skip("run by TestRuntimeWhoseSocketIsForbiddenCannotBeSeen")
	}
	_, err := runtimeNew(t, root).Look(t.Context())
	require.ErrorIs(t, err, os.ErrPermission)
	require.NotErrorIs(t, err, detector.ErrNotPresent)
}

func TestRuntimeReturnsWithTheContext(t *testing.T) {
	root := serviceDir(t)
	fake := &runtimeFake{}
	fake.hang.Store(true)
	fake.serve(t, filepath.Join(root, runtimeSocket))
	r := NewRuntime(host.New(root), RuntimeOptions{})
	t.Cleanup(r.drop)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := r.Look(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "the end of the look is no fault of the runtime")
	assert.Less(t, time.Since(started), 5*time.Second)
}

func TestRuntimeLeaksNothing(t *testing.T) {
	root := serviceDir(t)
	path := filepath.Join(root, runtimeSocket)
	fake := &runtimeFake{}
	fake.conditions(true, true)
	stop := fake.serve(t, path)
	r := runtimeNew(t, root)
	serviceLeaks(t, func() { runtimeLook(t, r) })
	stop()
	serviceLeaks(t, func() { runtimeMessage(t, r) })
}

func BenchmarkRuntimeLook(b *testing.B) {
	root := serviceDir(b)
	path := filepath.Join(root, runtimeSocket)
	if real := os.Getenv("RUNTIME_TEST_SOCKET"); real != "" {
		root, path = "/", real
	} else {
		fake := &runtimeFake{}
		fake.conditions(true, true)
		require.NoError(b, os.MkdirAll(filepath.Dir(path), 0o755))
		listener, err := net.Listen("unix", path)
		require.NoError(b, err)
		server := grpc.NewServer()
		cri.RegisterRuntimeServiceServer(server, fake)
		go func() { _ = server.Serve(listener) }()
		b.Cleanup(server.Stop)
	}
	r := NewRuntime(host.New(root), RuntimeOptions{Sockets: []string{strings.TrimPrefix(path, root)}})
	b.Cleanup(r.drop)
	b.ReportAllocs()
	for b.Loop() {
		_, err := r.Look(b.Context())
		require.NoError(b, err)
	}
}

// TestRuntimeContainerd looks at a containerd of its own.
func TestRuntimeContainerd(t *testing.T) {
	binary, err := exec.LookPath("containerd")
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs root and containerd: apt-get install containerd")
	}
	root := serviceDir(t)
	path := filepath.Join(root, runtimeSocket)
	config := filepath.Join(root, "config.toml")
	require.NoError(t, os.WriteFile(config, []byte(`version = 2
root = "`+root+`/root"
state = "`+root+`/state"
[grpc]
address = "`+path+`"
[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "`+root+`/cni"
conf_dir = "`+root+`/net.d"
`), 0o600))
	var logs strings.Builder
	daemon := exec.Command(binary, "--config", config)
	daemon.Stdout, daemon.Stderr = &logs, &logs
	require.NoError(t, daemon.Start())
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGCONT)
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if t.Failed() {
			t.Log(logs.String())
		}
	})
	r := NewRuntime(host.New(root), RuntimeOptions{Timeout: metav1.Duration{Duration: 2 * time.Second}})
	t.Cleanup(r.drop)
	var look tracking.Look
	well := func() bool {
		look, err = r.Look(t.Context())
		return err == nil && len(look.Faults) == 0
	}
	require.Eventually(t, well, 60*time.Second, 100*time.Millisecond, "a containerd without a network plugin is a healthy runtime: %v %v", look, err)

	require.NoError(t, daemon.Process.Signal(syscall.SIGSTOP))
	require.Eventually(t, func() bool { return !well() }, 30*time.Second, 100*time.Millisecond)
	assert.Contains(t, runtimeMessage(t, r), "has not answered within 2s")
	assert.Contains(t, runtimeMessage(t, r), "has not answered within 2s")
	require.NoError(t, daemon.Process.Signal(syscall.SIGCONT))
	require.Eventually(t, well, 30*time.Second, 100*time.Millisecond)

	require.NoError(t, daemon.Process.Kill())
	_ = daemon.Wait()
	assert.Contains(t, runtimeMessage(t, r), "connections are refused")
}

// serviceDir is a folder whose name is short enough for the address of a unix socket.
func serviceDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "service")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func serviceCopy(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, text, 0o755))
}

// serviceLeaks looks a thousand times and compares file descriptors and goroutines with those after a few looks.
func serviceLeaks(t *testing.T, look func()) {
	t.Helper()
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		require.NoError(t, err)
		return len(entries)
	}
	for range 10 {
		look()
	}
	descriptors, goroutines := open(), runtime.NumGoroutine()
	for range 1000 {
		look()
	}
	const slack = 10 // what the other side of a connection has not let go of yet
	assert.Eventually(t, func() bool {
		return open() <= descriptors+slack && runtime.NumGoroutine() <= goroutines+slack
	}, 20*time.Second, 50*time.Millisecond, "file descriptors %d, goroutines %d before", descriptors, goroutines)
}
