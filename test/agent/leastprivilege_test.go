package agent

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/machine"
)

func TestTheAgentMayOnlyReadNodesAndWriteFindings(t *testing.T) {
	role := &rbacv1.ClusterRole{}
	ofChart(t, "ClusterRole", role)
	allowed := map[string][]string{"nodehealths": {"create", "patch"}, "nodes": {"get"}}
	for _, rule := range role.Rules {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				require.Contains(t, allowed[resource], verb, "%s of %s", verb, resource)
			}
		}
		require.Empty(t, rule.NonResourceURLs)
	}
	binding := &rbacv1.ClusterRoleBinding{}
	ofChart(t, "ClusterRoleBinding", binding)
	require.Equal(t, role.Name, binding.RoleRef.Name)
	require.Equal(t, cluster.AgentServiceAccount.Name, binding.Subjects[0].Name)
	require.Equal(t, cluster.AgentServiceAccount.Namespace, binding.Subjects[0].Namespace)
}

func TestTheDaemonSetIsNotPrivileged(t *testing.T) {
	d := daemonSet(t)
	pod := d.Spec.Template.Spec
	require.Equal(t, d.Spec.Selector.MatchLabels, d.Spec.Template.Labels)
	require.Equal(t, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, pod.Tolerations)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
	require.False(t, pod.HostIPC)
	require.Empty(t, pod.InitContainers)
	c := pod.Containers[0]
	require.False(t, *c.SecurityContext.Privileged)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.Equal(t, []corev1.Capability{"SYSLOG"}, c.SecurityContext.Capabilities.Add)
	require.Equal(t, "64Mi", c.Resources.Limits.Memory().String())
	require.NotNil(t, c.LivenessProbe.Exec, "never over TCP")
	readOnly := map[string]bool{}
	for _, m := range c.VolumeMounts {
		readOnly[m.Name] = m.ReadOnly
	}
	for _, volume := range pod.Volumes {
		if volume.HostPath == nil {
			continue
		}
		path := filepath.Clean(volume.HostPath.Path)
		for _, whole := range []string{"/", "/etc", "/var", "/var/lib", "/var/lib/kubelet", "/run", "/var/run", "/dev", "/root", "/home"} {
			require.NotEqual(t, whole, path, "it is too much: mount what is needed of it")
		}
		require.Equal(t, volume.Name != "state", readOnly[volume.Name], "only the state is written, not %s", path)
	}
}

// checked is what `agent check -o json` says.
type checked struct {
	Sources  []v1alpha1.Source  `json:"sources"`
	Findings []v1alpha1.Finding `json:"findings"`
}

func (c checked) states() map[string]v1alpha1.SourceState {
	states := map[string]v1alpha1.SourceState{}
	for _, s := range c.Sources {
		states[s.Name] = s.State
	}
	return states
}

func (c checked) source(name string) v1alpha1.Source {
	i := slices.IndexFunc(c.Sources, func(s v1alpha1.Source) bool { return s.Name == name })
	if i < 0 {
		return v1alpha1.Source{}
	}
	return c.Sources[i]
}

func check(t *testing.T, c container) checked {
	t.Helper()
	var got checked
	out := c.run(t, "check", "--output=json", "--host-root=/host", "--config=/etc/autorepair/config.yaml", "--wait=2s")
	require.NoError(t, json.Unmarshal([]byte(out), &got), out)
	return got
}

// fakeRuntime answers as containerd does.
type fakeRuntime struct {
	cri.UnimplementedRuntimeServiceServer
}

func (fakeRuntime) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	ready := []*cri.RuntimeCondition{{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true}}
	return &cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: ready}}, nil
}

// nodeFiles stand for what a node has and this computer may not: a runtime's socket, which is root's alone, and log
// files.
func nodeFiles(t *testing.T) map[string]string {
	t.Helper()
	run, err := os.MkdirTemp("", "run") // the path of a socket is short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	listener, err := net.Listen("unix", filepath.Join(run, "containerd.sock"))
	require.NoError(t, err)
	require.NoError(t, os.Chmod(filepath.Join(run, "containerd.sock"), 0o660))
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, fakeRuntime{})
	go server.Serve(listener) //nolint:errcheck // ends with the test
	t.Cleanup(server.Stop)
	log := t.TempDir()
	const line = "Jan  2 15:04:05 node kubelet[812]: I0102 15:04:05.000000     812 server.go:100] \"Started kubelet\"\n"
	syslog := filepath.Join(log, "syslog")
	require.NoError(t, os.WriteFile(syslog, []byte(line), 0o600))
	// As on Debian and Ubuntu, where it is another user's and adm may read it.
	require.NoError(t, os.Chown(syslog, 104, 4))
	require.NoError(t, os.Chmod(syslog, 0o640))
	return map[string]string{"/run/containerd": run, "/var/log": log}
}

func needContainer(t *testing.T) {
	t.Helper()
	if missing := machine.Missing(); missing != "" {
		t.Skip("SKIPPED: " + missing)
	}
	agent, err := cluster.Binary("agent")
	require.NoError(t, err)
	if _, err := os.Stat(agent); err != nil {
		t.Skip("SKIPPED: needs bin/agent: run make build")
	}
}

func TestWithTheRightsOfTheDaemonSetEveryDetectorSees(t *testing.T) {
	needContainer(t)
	c := containerOf(t, daemonSet(t), nodeFiles(t))
	got := check(t, c)
	states := got.states()
	for _, name := range []string{
		"kernel-log", "kubelet-log", "interfaces", "routes", "network-settings", "mounts", "disks", "processes", "clock", "container-runtime",
	} {
		require.Equal(t, v1alpha1.SourceActive, states[name], "%s: %s", name, got.source(name).Message)
	}
	for name, state := range states {
		require.Equal(t, v1alpha1.SourceActive, state, "%s: %s", name, got.source(name).Message)
	}
}

func TestADetectorThatMayNotSeeSaysSoAndTheOthersGoOn(t *testing.T) {
	needContainer(t)
	for name, tc := range map[string]struct {
		without func(c *container)
		source  string
	}{
		"no capability": {
			without: func(c *container) { c.Capabilities = nil }, source: "kernel-log",
		},
		"the firewall is wanted without the capability for it": {
			without: func(c *container) { c.configure(t, "") }, source: "network-settings",
		},
		"no PID namespace of the node": {
			without: func(c *container) { c.HostPID = false }, source: "processes",
		},
		"no devices of the node": {
			without: func(c *container) { c.unmount("/host/sys") }, source: "interfaces",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := containerOf(t, daemonSet(t), nodeFiles(t))
			tc.without(&c)
			got := check(t, c)
			blind := got.source(tc.source)
			require.NotEqual(t, v1alpha1.SourceActive, blind.State, "%s must not claim to see all", tc.source)
			require.NotEmpty(t, blind.Message)
			for _, other := range []string{"routes", "mounts", "clock"} {
				require.Equal(t, v1alpha1.SourceActive, got.states()[other], other)
			}
		})
	}
}

// unmount leaves a mount out.
func (c *container) unmount(target string) {
	c.Mounts = slices.DeleteFunc(c.Mounts, func(m bind) bool { return m.Target == target })
}

// configure puts another configuration in the place of the chart's.
func (c *container) configure(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o600))
	c.unmount("/etc/autorepair")
	c.Mounts = append(c.Mounts, bind{Source: dir, Target: "/etc/autorepair", ReadOnly: true})
}
