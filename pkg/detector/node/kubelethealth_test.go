package node

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const kubeletHealthBroken = "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n"

// kubeletHealthFake answers at an address of the loopback interface as the test wants.
type kubeletHealthFake struct {
	address string
	server  *http.Server
}

func (f *kubeletHealthFake) serve(t *testing.T, handle http.HandlerFunc) {
	t.Helper()
	if f.address == "" {
		f.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", f.address)
	require.NoError(t, err)
	f.address = listener.Addr().String()
	f.server = &http.Server{Handler: handle}
	server := f.server
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

func (f *kubeletHealthFake) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, f.server.Close())
}

func kubeletHealthSays(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func kubeletHealthNew(root, address string) *KubeletHealth {
	return NewKubeletHealth(host.New(root), KubeletHealthOptions{
		URL: "http://" + address + "/healthz", Timeout: metav1.Duration{Duration: 300 * time.Millisecond},
	})
}

func kubeletHealthFaults(t *testing.T, k *KubeletHealth) []tracking.Fault {
	t.Helper()
	look, err := k.Look(t.Context())
	require.NoError(t, err)
	return look.Faults
}

func TestKubeletHealthSays(t *testing.T) {
	for name, tc := range map[string]struct {
		code         int
		body         string
		answered     bool
		wantMessage  string
		wantEvidence []string
		wantErr      string
	}{
		"ok does nothing":                                 {code: 200, body: "ok"},
		"a failing check is a fault":                      {code: 500, body: kubeletHealthBroken, wantMessage: "The kubelet's health check fails with status 500.", wantEvidence: []string{"[-]syncloop failed: reason withheld"}},
		"a body without end is cut":                       {code: 500, body: "healthz check failed\n" + strings.Repeat("[-]x failed\n", 100_000), wantMessage: "The kubelet's health check fails with status 500.", wantEvidence: []string{"[-]x failed", "[-]x failed", "[-]x failed", "[-]x failed", "[-]x failed"}},
		"an error of something else is not the kubelet's": {code: 500, body: "oops", wantErr: "no kubelet's health check"},
		"any error of one that was well is a fault":       {code: 503, body: "oops", answered: true, wantMessage: "The kubelet's health check fails with status 503."},
		"another program on the port is not the kubelet":  {code: 404, body: "404 page not found", answered: true, wantErr: "no kubelet's health check"},
		"a redirect is not followed":                      {code: 302, wantErr: "no kubelet's health check"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &kubeletHealthFake{}
			fake.serve(t, kubeletHealthSays(tc.code, tc.body))
			k := kubeletHealthNew(t.TempDir(), fake.address)
			k.memory.Answered = tc.answered
			look, err := k.Look(t.Context())
			switch {
			case tc.wantErr != "":
				require.ErrorContains(t, err, tc.wantErr)
				require.NotErrorIs(t, err, detector.ErrNotPresent)
			case tc.wantMessage != "":
				require.NoError(t, err)
				require.Len(t, look.Faults, 1)
				assert.Equal(t, tracking.Fault{Reason: ReasonKubeletFailed, Message: tc.wantMessage, Evidence: tc.wantEvidence}, look.Faults[0])
			default:
				require.NoError(t, err)
				assert.Empty(t, look.Faults)
			}
		})
	}
}

func TestKubeletHealthGoesAndComesBack(t *testing.T) {
	fake := &kubeletHealthFake{}
	fake.serve(t, kubeletHealthSays(200, "ok"))
	k := kubeletHealthNew(t.TempDir(), fake.address)
	assert.Empty(t, kubeletHealthFaults(t, k))

	fake.stop(t)
	gone := kubeletHealthFaults(t, k)
	require.Len(t, gone, 1)
	assert.Equal(t, "The kubelet's health check cannot be reached, and it could before.", gone[0].Message)
	assert.Equal(t, []string{"connection refused"}, gone[0].Evidence)

	t.Run("another agent in the same boot misses it too", func(t *testing.T) {
		next := kubeletHealthNew(t.TempDir(), fake.address)
		next.Resume(k.Cursor(), true)
		assert.Len(t, kubeletHealthFaults(t, next), 1)
	})
	t.Run("another boot does not", func(t *testing.T) {
		next := kubeletHealthNew(t.TempDir(), fake.address)
		next.Resume(k.Cursor(), false)
		_, err := next.Look(t.Context())
		require.ErrorIs(t, err, detector.ErrNotPresent)
	})

	fake.serve(t, kubeletHealthSays(200, "ok"))
	assert.Empty(t, kubeletHealthFaults(t, k))
}

func TestKubeletHealthThatNeverReplies(t *testing.T) {
	fake := &kubeletHealthFake{}
	end := make(chan struct{})
	hang := func(http.ResponseWriter, *http.Request) { <-end }
	fake.serve(t, hang)
	t.Cleanup(func() { close(end) })

	k := kubeletHealthNew(t.TempDir(), fake.address)
	_, err := k.Look(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded, "one that has never answered may be anything")

	k.memory.Answered = true
	silent := kubeletHealthFaults(t, k)
	require.Len(t, silent, 1)
	assert.Equal(t, "The kubelet has not answered its health check within 300ms.", silent[0].Message)

	t.Run("and the look ends with its context", func(t *testing.T) {
		k := NewKubeletHealth(host.New(t.TempDir()), KubeletHealthOptions{URL: k.options.URL})
		k.memory.Answered = true
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := k.Look(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, "the end of the look is no fault of the kubelet")
	})
}

func TestKubeletHealthElsewhereCannotBeSeen(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := listener.Addr().String()
	require.NoError(t, listener.Close())

	for name, tc := range map[string]struct {
		process string
		want    string
	}{
		"no kubelet runs":        {process: "kube-proxy", want: detector.ErrNotPresent.Error()},
		"a kubelet runs":         {process: "kubelet", want: "it may listen elsewhere"},
		"no process can be read": {want: detector.ErrNotPresent.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if tc.process != "" {
				require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/77"), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(root, "proc/77/comm"), []byte(tc.process+"\n"), 0o600))
			}
			_, err := kubeletHealthNew(root, free).Look(t.Context())
			require.ErrorContains(t, err, tc.want)
		})
	}
	t.Run("an address that is none", func(t *testing.T) {
		_, err := NewKubeletHealth(host.New(t.TempDir()), KubeletHealthOptions{URL: "127.0.0.1:10248"}).Look(t.Context())
		require.ErrorContains(t, err, "asking the kubelet")
		require.NotErrorIs(t, err, detector.ErrNotPresent)
	})
}

func TestKubeletHealthDoesNotAskAProxy(t *testing.T) {
	// Of a loopback address the standard library asks no proxy anyway, so the address here is not one.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	k := kubeletHealthNew(t.TempDir(), "192.0.2.1:10248")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, k.options.URL, nil)
	require.NoError(t, err)
	transport, ok := k.client.Transport.(*http.Transport)
	require.True(t, ok)
	require.Nil(t, transport.Proxy, request.URL)
}

func TestKubeletHealthWithoutLoopbackIsNotTheKubelets(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace, in which the loopback interface is down")
	}
	command := exec.Command(os.Args[0], "-test.run=TestKubeletHealthInANewNamespace", "-test.v")
	command.Env = append(os.Environ(), "KUBELET_TEST_NAMESPACE=1")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "--- PASS: TestKubeletHealthInANewNamespace")
}

// TestKubeletHealthInANewNamespace is run by the test above.
func TestKubeletHealthInANewNamespace(t *testing.T) {
	if os.Getenv("KUBELET_TEST_NAMESPACE") == "" {
		t.Skip("run by TestKubeletHealthWithoutLoopbackIsNotTheKubelets")
	}
	for _, address := range []string{"127.0.0.1:10248", "localhost:10248", "[::1]:10248"} {
		k := kubeletHealthNew(t.TempDir(), address)
		k.memory.Answered = true
		_, err := k.Look(t.Context())
		require.ErrorContains(t, err, "the loopback interface is down", address)
		require.NotErrorIs(t, err, detector.ErrNotPresent)
	}
}

func TestKubeletHealthLeaksNothing(t *testing.T) {
	fake := &kubeletHealthFake{}
	fake.serve(t, kubeletHealthSays(200, "ok"))
	k := kubeletHealthNew(t.TempDir(), fake.address)
	serviceLeaks(t, func() { assert.Empty(t, kubeletHealthFaults(t, k)) })
	fake.stop(t)
	serviceLeaks(t, func() { assert.Len(t, kubeletHealthFaults(t, k), 1) })
}

func FuzzKubeletHealthChecks(f *testing.F) {
	f.Add([]byte(kubeletHealthBroken))
	f.Add([]byte("[-]\xff\xfe\n[-]"))
	f.Fuzz(func(t *testing.T, body []byte) {
		checks := kubeletHealthChecks(body)
		require.LessOrEqual(t, len(checks), kubeletHealthChecksMost)
		for _, c := range checks {
			require.LessOrEqual(t, len(c), serviceTextMost)
			require.NotContains(t, c, "\n")
		}
	})
}

func BenchmarkKubeletHealthLook(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := &http.Server{Handler: kubeletHealthSays(200, "ok")}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	k := kubeletHealthNew(b.TempDir(), listener.Addr().String())
	b.ReportAllocs()
	for b.Loop() {
		_, err := k.Look(b.Context())
		require.NoError(b, err)
	}
}
