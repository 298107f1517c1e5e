package realnode

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

const (
	namespace      = "autorepair"
	agentNamespace = "autorepair-agent"

	// syslog is the one capability that the agent has, CAP_SYSLOG, as /proc shows it.
	syslog = "0000000400000000"
	none   = "0000000000000000"
)

// The release is installed once and looked at from several sides, since each installation takes its time; the parts go
// on from one another.
func TestTheReleaseOnARealNode(t *testing.T) {
	if m := missing(); m != "" {
		t.Skip("SKIPPED: " + m)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	n := &node{T: t, ctx: ctx}
	claim := n.claim()
	require.True(t, claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue())
	n.name = claim.Status.NodeName
	t.Cleanup(func() {
		if t.Failed() {
			n.dump()
		}
	})
	n.install()
	agents := n.waitPods(agentNamespace, "autorepair-agent", 1)
	controllers := n.waitPods(namespace, "autorepair-controller", 2)

	part := func(name string, do func(n *node)) {
		t.Run(name, func(t *testing.T) { do(&node{T: t, ctx: ctx, name: n.name}) })
	}
	part("the node is a kubelet's and Karpenter's", theNodeIsReal)
	part("the agent has the rights that the chart gives, and no more", func(n *node) { n.agentIsConfined(agents[0]) })
	part("the controllers have no rights at all", func(n *node) { n.controllersAreConfined(controllers) })
	part("whatever root sees on the node the agent sees from its container", func(n *node) { n.nothingIsHidden(agents[0]) })
	part("a card that goes down is on the NodeClaim, and goes again", (*node).aCardGoesDown)
	part("another link that goes down changes nothing", (*node).anotherLinkGoesDown)
	part("a process that the kernel kills for its memory is read in the kernel's log", (*node).memoryRunsOut)
	part("nothing of the release has died meanwhile", (*node).nothingHasDied)
	part("uninstalling it leaves nothing, and the NodeClaim as it was", (*node).uninstall)
}

func (n *node) install() {
	n.Helper()
	charts, err := cluster.Charts()
	require.NoError(n, err)
	n.helm("install", "autorepair-crd", filepath.Join(charts, "autorepair-crd"), "--namespace="+namespace, "--create-namespace")
	n.helm("install", "autorepair", filepath.Join(charts, "autorepair"), "--namespace="+namespace,
		"--set=controller.image.tag=latest", "--set=agent.image.tag=latest",
		"--set=agent.config.detectors.interfaces.include={"+card+"}")
}

func (n *node) helm(args ...string) {
	n.Helper()
	out, err := cluster.Helm(n.ctx, append(args, "--kubeconfig="+shared.Kubeconfig)...)
	require.NoError(n, err, out)
}

func theNodeIsReal(n *node) {
	got := &corev1.Node{}
	require.NoError(n, shared.Client.Get(n.ctx, client.ObjectKey{Name: n.name}, got))
	require.NotContains(n, got.Annotations, "kwok.x-k8s.io/node", "kwok plays nodes with this annotation")
	require.Contains(n, got.Status.NodeInfo.ContainerRuntimeVersion, "containerd://")
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(n, err)
	require.Equal(n, string(boot), got.Status.NodeInfo.BootID+"\n")
	require.Equal(n, n.claim().Status.ProviderID, got.Spec.ProviderID)
	require.Equal(n, "true", got.Labels[karpv1.NodeInitializedLabelKey])
}

func (n *node) agentIsConfined(pod corev1.Pod) {
	p := processOf(n.T, pod, "agent")
	for key, want := range map[string]string{
		"CapEff": syslog, "CapPrm": syslog, "CapBnd": syslog, "CapInh": none, "CapAmb": none, "NoNewPrivs": "1",
		"Seccomp": "2", // a filter
		"Uid":     "0\t0\t0\t0",
		"Groups":  "0 4",
	} {
		require.Equal(n, want, p.status[key], key)
	}
	require.True(n, p.rootIsReadOnly(n.T))
	_, err := os.Stat(filepath.Join("/proc", strconv.Itoa(p.pid), "root", "dev", "kmsg"))
	require.ErrorIs(n, err, os.ErrNotExist, "the kernel's log is read by the system call")
}

func (n *node) controllersAreConfined(pods []corev1.Pod) {
	for _, pod := range pods {
		p := processOf(n.T, pod, "controller")
		for key, want := range map[string]string{
			"CapEff": none, "CapPrm": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2", "Uid": "65532\t65532\t65532\t65532",
		} {
			require.Equal(n, want, p.status[key], key)
		}
		require.True(n, p.rootIsReadOnly(n.T))
	}
}

func (n *node) nothingIsHidden(pod corev1.Pod) {
	root, confined := n.asRoot(), n.inPod(pod)
	for name, want := range root {
		got, there := confined[name]
		require.True(n, there, "%s is %s for root", name, want.State)
		require.Equal(n, want.State, got.State, "%s: %s", name, got.Message)
	}
	for _, name := range []string{
		"kernel-log", "interfaces", "routes", "network-settings", "mounts", "disks", "processes", "clock", "container-runtime", "kubelet-health",
		"kubelet-log", "containerd-log",
	} {
		require.Equal(n, v1alpha1.SourceActive, confined[name].State, "%s: %s", name, confined[name].Message)
	}
	var all []string
	for name, s := range confined {
		all = append(all, fmt.Sprintf("%s %s %s", name, s.State, s.Message))
	}
	n.Logf("on this node: %q", all)
}

func (n *node) aCardGoesDown() {
	n.waitSays(metav1.ConditionTrue)
	require.NoError(n, setLink(card, false))
	n.waitFinding("InterfaceNotUp", card)
	sick := n.waitSays(metav1.ConditionFalse)
	require.Equal(n, "InterfaceNotUp", sick.Reason)
	require.Contains(n, sick.Message, card)
	require.NoError(n, setLink(card, true))
	n.waitSays(metav1.ConditionTrue)
	require.Nil(n, n.finding("InterfaceNotUp", card))
}

func (n *node) anotherLinkGoesDown() {
	n.waitSays(metav1.ConditionTrue)
	require.NoError(n, setLink(other, false))
	suite.HoldsFor(n, 15*time.Second, "networking is well", func() error {
		if now := n.says(v1alpha1.CategoryNetworking); now.Status != metav1.ConditionTrue {
			return fmt.Errorf("the NodeClaim says %s: %s", now.Reason, now.Message)
		}
		if f := n.finding("InterfaceNotUp", ""); f != nil {
			return fmt.Errorf("there is %+v", f)
		}
		return nil
	})
	require.NoError(n, setLink(other, true))
}

// memoryRunsOut has the kernel write a line of its own: those that others write to its log do not count. The program has
// a name that is this run's alone, since the kernel's log keeps the lines of earlier runs.
func (n *node) memoryRunsOut() {
	name := fmt.Sprintf("arhog%d", os.Getpid())
	group, limit := filepath.Join("/sys/fs/cgroup/memory", name), "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		group, limit = filepath.Join("/sys/fs/cgroup", name), "memory.max"
	}
	require.NoError(n, os.MkdirAll(group, 0o755))
	n.Cleanup(func() { _ = os.Remove(group) })
	require.NoError(n, os.WriteFile(filepath.Join(group, limit), []byte("16777216"), 0o600))
	tail, err := exec.LookPath("tail")
	require.NoError(n, err)
	program, err := os.ReadFile(tail)
	require.NoError(n, err)
	hog := filepath.Join(n.TempDir(), name)
	require.NoError(n, os.WriteFile(hog, program, 0o700)) //nolint:gosec // it is to be run
	// A line without an end is kept in memory as a whole.
	cmd := exec.CommandContext(n.ctx, "sh", "-c", "echo $$ >"+filepath.Join(group, "cgroup.procs")+" && exec "+hog+" /dev/zero") //nolint:gosec // our own paths
	require.Error(n, cmd.Run(), "it is killed")
	n.waitFinding("OOMKilling", name)
}

func (n *node) nothingHasDied() {
	pods := &corev1.PodList{}
	require.NoError(n, shared.Client.List(n.ctx, pods, client.MatchingFields{"spec.nodeName": n.name}))
	require.Len(n, pods.Items, 3)
	for _, pod := range pods.Items {
		for _, c := range pod.Status.ContainerStatuses {
			require.Zero(n, c.RestartCount, "%s: %+v", pod.Name, c.LastTerminationState)
		}
	}
}

// uninstall has Helm run the Job that cleans up as a pod of this node.
func (n *node) uninstall() {
	n.helm("uninstall", "autorepair", "--namespace="+namespace, "--wait", "--timeout=4m")
	n.waitPods(agentNamespace, "autorepair-agent", 0)
	n.waitPods(namespace, "autorepair-controller", 0)
	left, err := shared.Leftovers(n.ctx)
	require.NoError(n, err)
	require.Empty(n, left)
	claim := n.claim()
	require.True(n, claim.DeletionTimestamp.IsZero())
	require.True(n, claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue())
}

func (n *node) dump() {
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "--output=wide"},
		{"get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"},
		{"get", "nodeclaims,nodehealths,nodes", "--output=yaml"},
		{"logs", "--namespace=" + agentNamespace, "daemonset/autorepair-agent", "--tail=60"},
		{"logs", "--namespace=" + namespace, "deployment/autorepair-controller", "--tail=60"},
	} {
		out, err := shared.Kubectl(context.Background(), args...)
		n.Logf("kubectl %v (%v)\n%s", args, err, out)
	}
}
