package realnode

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// patience is how long an expected thing may take; generous, since the computer may be slow.
const patience = 90 * time.Second

// node is the real node and what Karpenter and the agent say of it.
type node struct {
	*testing.T
	ctx  context.Context
	name string
}

func (n *node) claim() *karpv1.NodeClaim {
	claim := &karpv1.NodeClaim{}
	require.NoError(n, shared.Client.Get(n.ctx, client.ObjectKey{Name: "real-node"}, claim))
	return claim
}

// says gives the condition of the NodeClaim for a category.
func (n *node) says(category v1alpha1.Category) metav1.Condition {
	for _, c := range n.claim().Status.Conditions {
		if c.Type == health.ConditionType(category) {
			return metav1.Condition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message}
		}
	}
	return metav1.Condition{}
}

// waitSays waits until the condition of the network is so.
func (n *node) waitSays(status metav1.ConditionStatus) metav1.Condition {
	n.Helper()
	var now metav1.Condition
	suite.Within(n.ctx, n, patience, fmt.Sprintf("the NodeClaim says %s %s", v1alpha1.CategoryNetworking, status), func() error {
		if now = n.says(v1alpha1.CategoryNetworking); now.Status != status {
			return fmt.Errorf("it says %s %s: %s", now.Status, now.Reason, now.Message)
		}
		return nil
	})
	return now
}

func (n *node) health() *v1alpha1.NodeHealth {
	got := &v1alpha1.NodeHealth{}
	require.NoError(n, client.IgnoreNotFound(shared.Client.Get(n.ctx, client.ObjectKey{Name: n.name}, got)))
	return got
}

func (n *node) finding(reason, subject string) *v1alpha1.Finding {
	for _, f := range n.health().Findings {
		if f.Reason == reason && (subject == "" || f.Subject == subject) {
			return &f
		}
	}
	return nil
}

func (n *node) waitFinding(reason, subject string) {
	n.Helper()
	suite.Within(n.ctx, n, patience, "the NodeHealth has "+reason, func() error {
		if n.finding(reason, subject) == nil {
			return fmt.Errorf("it has %+v", n.health().Findings)
		}
		return nil
	})
}

// pods of a part of the release.
func (n *node) pods(namespace, name string) []corev1.Pod {
	list := &corev1.PodList{}
	require.NoError(n, shared.Client.List(n.ctx, list, client.InNamespace(namespace), client.MatchingLabels{"app.kubernetes.io/name": name}))
	return list.Items
}

func (n *node) waitPods(namespace, name string, count int) []corev1.Pod {
	n.Helper()
	var pods []corev1.Pod
	suite.Within(n.ctx, n, 2*patience, fmt.Sprintf("%d pods of %s are ready", count, name), func() error {
		pods = n.pods(namespace, name)
		ready := 0
		for _, p := range pods {
			if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}) {
				ready++
			}
		}
		if ready != count || len(pods) != count {
			return fmt.Errorf("%d of %d are", ready, len(pods))
		}
		return nil
	})
	return pods
}

// process is what the kernel says of a process.
type process struct {
	pid    int
	status map[string]string
}

// processOf finds the process of a program in a pod.
func processOf(t *testing.T, pod corev1.Pod, program string) process {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/status")
	require.NoError(t, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(text), "Name:\t"+program+"\n") {
			continue
		}
		group, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if err != nil || !strings.Contains(string(group), string(pod.UID)) {
			continue
		}
		p := process{status: map[string]string{}}
		p.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
		require.NoError(t, err)
		for line := range strings.SplitSeq(string(text), "\n") {
			key, value, _ := strings.Cut(line, ":")
			p.status[key] = strings.TrimSpace(value)
		}
		return p
	}
	t.Fatalf("no process %s in pod %s", program, pod.Name)
	return process{}
}

// rootIsReadOnly tells whether the root of its filesystem is.
func (p process) rootIsReadOnly(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "mountinfo"))
	require.NoError(t, err)
	for line := range strings.SplitSeq(string(text), "\n") {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
		if fields := strings.Fields(line); len(fields) > 5 && fields[4] == "/" {
			return slices.Contains(strings.Split(fields[5], ","), "ro")
		}
	}
	return false
}

// checked is what agent check says of its sources.
type checked map[string]v1alpha1.Source

func parseCheck(t *testing.T, text []byte) checked {
	t.Helper()
	var said struct {
		Sources []v1alpha1.Source `json:"sources"`
	}
	require.NoError(t, json.Unmarshal(text, &said), string(text))
	sources := checked{}
	for _, s := range said.Sources {
		sources[s.Name] = s
	}
	return sources
}

// asRoot runs the agent's check on the node with all the rights of root, in the node's mount namespace.
func (n *node) asRoot() checked {
	n.Helper()
	agent, err := cluster.Binary("agent")
	require.NoError(n, err)
	cmd := exec.CommandContext(n.ctx, "nsenter", "--target", strconv.Itoa(n.containerd()), "--mount", agent, "check", "--output=json", "--wait=2s")
	out, err := cmd.Output()
	require.NoError(n, err)
	return parseCheck(n.T, out)
}

// inPod runs the same in the agent's own container.
func (n *node) inPod(pod corev1.Pod) checked {
	n.Helper()
	out, err := shared.Kubectl(n.ctx, "exec", "--namespace="+pod.Namespace, pod.Name, "--",
		"/agent", "check", "--output=json", "--wait=2s", "--host-root=/host", "--config=/etc/autorepair/config.yaml")
	require.NoError(n, err)
	return parseCheck(n.T, []byte(out[strings.Index(out, "{"):]))
}

// containerd of the node.
func (n *node) containerd() int {
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(n, err)
	for _, path := range paths {
		dir := filepath.Dir(path)
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || string(comm) != "containerd\n" {
			continue
		}
		environment, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(environment), "="+shared.Dir+"\x00") {
			pid, err := strconv.Atoi(filepath.Base(dir))
			require.NoError(n, err)
			return pid
		}
	}
	n.Fatal("the node has no containerd")
	return 0
}
