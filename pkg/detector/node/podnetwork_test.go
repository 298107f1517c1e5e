package node

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// recordedNode is a folder of what a node has in its files.
type recordedNode struct {
	testing.TB
	root string
}

func newRecordedNode(t testing.TB) *recordedNode {
	n := &recordedNode{TB: t, root: t.TempDir()}
	n.run(1, "systemd")
	return n
}

// run records a process by the name that the kernel has for it.
func (n *recordedNode) run(pid int, name string) {
	n.Helper()
	n.write(filepath.Join("proc", strconv.Itoa(pid), "comm"), name+"\n")
}

func (n *recordedNode) end(pid int) {
	n.Helper()
	require.NoError(n, os.RemoveAll(filepath.Join(n.root, "proc", strconv.Itoa(pid))))
}

func (n *recordedNode) pod(name string) {
	n.Helper()
	require.NoError(n, os.MkdirAll(filepath.Join(n.root, "var/log/pods", name), 0o755))
}

func (n *recordedNode) removePod(name string) {
	n.Helper()
	require.NoError(n, os.RemoveAll(filepath.Join(n.root, "var/log/pods", name)))
}

func (n *recordedNode) write(path, text string) {
	n.Helper()
	path = filepath.Join(n.root, path)
	require.NoError(n, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(n, os.WriteFile(path, []byte(text), 0o600))
}

const (
	awsNode      = "kube-system_aws-node-x7k2p_0b6d6a4e-6b1c-4f1e-8f53-3d3a3c5e9b11"
	notRunning   = "IPAMDNotRunning : the VPC CNI is on this node and its address daemon does not run"
	kubeProxyDir = "kube-system_kube-proxy-9fz4b_1c0d4a52-52a2-4d1b-9f0d-6a3f4a7e2b90"
)

func TestIPAMD(t *testing.T) {
	for name, tc := range map[string]struct {
		// before and after a first look.
		before, after func(n *recordedNode)
		want          []string
		absent        bool
	}{
		"the daemon runs": {
			before: func(n *recordedNode) { n.pod(awsNode); n.run(812, "aws-k8s-agent") },
		},
		"the daemon ends": {
			before: func(n *recordedNode) { n.pod(awsNode); n.run(812, "aws-k8s-agent") },
			after:  func(n *recordedNode) { n.end(812) },
			want:   []string{notRunning},
		},
		"the daemon is restarted": {
			before: func(n *recordedNode) { n.pod(awsNode); n.run(812, "aws-k8s-agent") },
			after:  func(n *recordedNode) { n.end(812); n.run(9001, "aws-k8s-agent") },
		},
		"its process ID is another's now": {
			before: func(n *recordedNode) { n.pod(awsNode); n.run(812, "aws-k8s-agent") },
			after:  func(n *recordedNode) { n.run(812, "sleep") },
			want:   []string{notRunning},
		},
		"the daemon has never run": {
			before: func(n *recordedNode) { n.pod(awsNode) },
			want:   []string{notRunning},
		},
		"its pod is deleted and the runtime still asks it": {
			before: func(n *recordedNode) {
				n.pod(awsNode)
				n.run(812, "aws-k8s-agent")
				n.write("etc/cni/net.d/10-aws.conflist", "{}")
			},
			after: func(n *recordedNode) { n.end(812); n.removePod(awsNode) },
			want:  []string{notRunning},
		},
		"another network plugin takes over": {
			before: func(n *recordedNode) {
				n.pod(awsNode)
				n.run(812, "aws-k8s-agent")
				n.write("etc/cni/net.d/10-aws.conflist", "{}")
			},
			after: func(n *recordedNode) {
				n.end(812)
				n.removePod(awsNode)
				n.write("etc/cni/net.d/05-cilium.conflist", "{}")
			},
			absent: true,
		},
		"a configuration that was left behind": {
			before: func(n *recordedNode) { n.write("etc/cni/net.d/10-aws.conflist", "{}") },
			absent: true,
		},
		"the termination handler, which is no network plugin": {
			before: func(n *recordedNode) {
				n.pod("kube-system_aws-node-termination-handler-2wz8k_5f0b8a52-52a2-4d1b-9f0d-6a3f4a7e2b90")
			},
			absent: true,
		},
		"a pod of that name elsewhere": {
			before: func(n *recordedNode) { n.pod(strings.Replace(awsNode, "kube-system", "default", 1)) },
			absent: true,
		},
		"no pods": {before: func(*recordedNode) {}, absent: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newRecordedNode(t)
			d := NewIPAMD(host.New(n.root), IPAMDOptions{})
			tc.before(n)
			_, _ = d.Look(t.Context())
			asleep := restarted(d, NewIPAMD(host.New(n.root), IPAMDOptions{}), true)
			if tc.after != nil {
				tc.after(n)
			}
			for restart, d := range map[string]*IPAMD{"running": d, "restarted": asleep} {
				look, err := d.Look(t.Context())
				if tc.absent {
					require.ErrorIs(t, err, detector.ErrNotPresent, restart)
					continue
				}
				require.NoError(t, err, restart)
				require.ElementsMatch(t, tc.want, netFaults(look), restart)
			}
		})
	}
}

func TestIPAMDForgetsAtAnotherBoot(t *testing.T) {
	n := newRecordedNode(t)
	n.pod(awsNode)
	n.run(812, "aws-k8s-agent")
	d := NewIPAMD(host.New(n.root), IPAMDOptions{})
	netLook(t, d)
	n.removePod(awsNode)
	n.end(812)
	n.write("etc/cni/net.d/10-aws.conflist", "{}")
	_, err := restarted(d, NewIPAMD(host.New(n.root), IPAMDOptions{}), false).Look(t.Context())
	require.ErrorIs(t, err, detector.ErrNotPresent)
}

func TestIPAMDThatCannotSeeProcessesIsNotHealthy(t *testing.T) {
	n := newRecordedNode(t)
	n.pod(awsNode)
	n.end(1)
	_, err := NewIPAMD(host.New(n.root), IPAMDOptions{}).Look(t.Context())
	require.ErrorIs(t, err, errNoProcesses)
	require.NoError(t, os.RemoveAll(filepath.Join(n.root, "proc")))
	_, err = NewIPAMD(host.New(n.root), IPAMDOptions{}).Look(t.Context())
	require.ErrorContains(t, err, "opening /proc")
}

func TestProcessesOfThisMachine(t *testing.T) {
	own, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	p := netProcess{host: host.New(""), name: strings.TrimSpace(string(own))}
	runs, err := p.runs()
	require.NoError(t, err)
	require.True(t, runs)
	p = netProcess{host: host.New(""), name: "no-such-process"}
	runs, err = p.runs()
	require.NoError(t, err)
	require.False(t, runs)
}

// proxyServer answers as kube-proxy does, by path.
func proxyServer(t testing.TB, answers map[string]int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, known := answers[r.URL.Path]
		if !known {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, "{\"lastUpdated\": \"2026-11-25\",\n\"currentTime\": \"2026-11-25\"}\xff"+strings.Repeat("x", 10_000))
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// nobody is an address that refuses connections.
func nobody(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // that is the point
	return l.Addr().String()
}

// silence is an address that accepts and never answers.
func silence(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestKubeProxy(t *testing.T) {
	pod := func(n *recordedNode) { n.pod(kubeProxyDir) }
	running := func(n *recordedNode) { n.pod(kubeProxyDir); n.run(700, "kube-proxy") }
	process := func(n *recordedNode) { n.run(700, "kube-proxy") }
	for name, tc := range map[string]struct {
		node         func(n *recordedNode)
		address      func(t testing.TB) string
		answered     bool // in this boot
		want         []string
		wantDegraded string
		absent       bool
	}{
		"it is up to date": {
			node:    running,
			address: func(t testing.TB) string { return proxyServer(t, map[string]int{"/livez": 200, "/healthz": 200}) },
		},
		"it is up to date and the node is to be deleted": {
			node:    running,
			address: func(t testing.TB) string { return proxyServer(t, map[string]int{"/livez": 200, "/healthz": 503}) },
		},
		"it is of an older version and up to date": {
			node: running, address: func(t testing.TB) string { return proxyServer(t, map[string]int{"/healthz": 200}) },
		},
		"it is of an older version and out of date": {
			node: running, address: func(t testing.TB) string { return proxyServer(t, map[string]int{"/healthz": 503}) },
			want: []string{"KubeProxyNotReady : kube-proxy says that it is not healthy (HTTP 503)"},
		},
		"it is out of date": {
			node: running, address: func(t testing.TB) string { return proxyServer(t, map[string]int{"/livez": 503, "/healthz": 503}) },
			want: []string{"KubeProxyNotReady : kube-proxy says that it is not healthy (HTTP 503)"},
		},
		"it does not run": {
			node: pod, address: nobody,
			want: []string{"KubeProxyNotReady : kube-proxy does not run"},
		},
		"it runs and no longer listens": {
			node: running, address: nobody, answered: true,
			want: []string{"KubeProxyNotReady : kube-proxy does not answer"},
		},
		"it runs and no longer answers": {
			node: running, address: silence, answered: true,
			want: []string{"KubeProxyNotReady : kube-proxy does not answer"},
		},
		"it runs and its health endpoint is turned off": {
			node: running, address: nobody,
			wantDegraded: "has never answered: it may be turned off or have another address",
		},
		"it runs as a service of the node, without a pod": {
			node: process, address: func(t testing.TB) string { return proxyServer(t, map[string]int{"/livez": 200}) },
		},
		"there is none and another answers in its place": {
			node: func(*recordedNode) {}, address: func(t testing.TB) string { return proxyServer(t, map[string]int{"/livez": 200}) },
			absent: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newRecordedNode(t)
			tc.node(n)
			d := NewKubeProxy(host.New(n.root), KubeProxyOptions{
				Address: tc.address(t), Timeout: metav1.Duration{Duration: 200 * time.Millisecond},
			})
			d.Resume(fmt.Appendf(nil, `{"seen":false,"answered":%t}`, tc.answered), true)
			look, err := d.Look(t.Context())
			if tc.absent {
				require.ErrorIs(t, err, detector.ErrNotPresent)
				return
			}
			require.NoError(t, err)
			require.ElementsMatch(t, tc.want, netFaults(look))
			require.Contains(t, look.Degraded, tc.wantDegraded)
			require.Equal(t, tc.wantDegraded == "", look.Degraded == "")
			for _, f := range look.Faults {
				require.Less(t, len(f.Evidence[0]), 2*maxKubeProxyAnswer)
				require.NotContains(t, f.Evidence[0], "\n")
			}
		})
	}
}

func TestKubeProxyServiceThatEndsIsMissedAcrossARestart(t *testing.T) {
	n := newRecordedNode(t)
	n.run(700, "kube-proxy")
	o := KubeProxyOptions{Address: nobody(t)}
	d := NewKubeProxy(host.New(n.root), o)
	_, err := d.Look(t.Context())
	require.NoError(t, err)
	n.end(700)
	want := []string{"KubeProxyNotReady : kube-proxy does not run"}
	require.Equal(t, want, netFaults(netLook(t, d)))
	require.Equal(t, want, netFaults(netLook(t, restarted(d, NewKubeProxy(host.New(n.root), o), true))))
	_, err = restarted(d, NewKubeProxy(host.New(n.root), o), false).Look(t.Context())
	require.ErrorIs(t, err, detector.ErrNotPresent, "another boot")
}

// With the loopback down kube-proxy cannot be asked, which says nothing about it.
func TestKubeProxyBehindADeadLoopbackIsNotSeen(t *testing.T) {
	s := newNetSpace(t)
	s.down("lo")
	k := NewKubeProxy(host.New(t.TempDir()), KubeProxyOptions{Timeout: metav1.Duration{Duration: 400 * time.Millisecond}})
	// Only the dialer runs on the thread that is in the namespace; the rest of the client is on others.
	s.inside(func() {
		connection, err := k.dialer.DialContext(t.Context(), "tcp", k.address)
		if err == nil {
			_ = connection.Close()
		}
		require.Error(t, err)
		require.False(t, unanswered(err), "%v", err)
	})
}

func FuzzKubeProxyAnswer(f *testing.F) {
	for _, seed := range []string{"", "ok", "{\"lastUpdated\":", "\x00\xff", "a\nb\r\n"} {
		f.Add(seed, 503)
	}
	f.Fuzz(func(t *testing.T, body string, status int) {
		if status < 200 || status > 599 || status == http.StatusNotFound {
			t.Skip()
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		defer server.Close()
		k := NewKubeProxy(host.New(t.TempDir()), KubeProxyOptions{Address: server.Listener.Addr().String()})
		problem, evidence, err := k.ask(t.Context())
		require.True(t, err != nil || (problem == "") == (status == http.StatusOK))
		require.LessOrEqual(t, len(evidence), maxKubeProxyAnswer)
		require.NotContains(t, evidence, "\n")
	})
}
