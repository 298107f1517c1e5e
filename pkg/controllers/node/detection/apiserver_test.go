package detection

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	detectors "github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// start runs the controller with a cache of its own until the function that it gives is called.
func start(t *testing.T, c *cluster.Cluster) (stop func()) {
	t.Helper()
	scheme, err := cluster.Scheme()
	require.NoError(t, err)
	m, err := manager.New(c.Config, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: new(true)},
	})
	require.NoError(t, err)
	running, cancel := context.WithCancel(context.Background())
	require.NoError(t, m.GetFieldIndexer().IndexField(running, &corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }))
	require.NoError(t, m.GetFieldIndexer().IndexField(running, &karpv1.NodeClaim{}, "status.providerID", func(o client.Object) []string { return []string{o.(*karpv1.NodeClaim).Status.ProviderID} }))
	mappings, err := detectors.DefaultNodeConditions()
	require.NoError(t, err)
	require.NoError(t, NewController(clock.RealClock{}, m.GetClient(), events.NewFakeRecorder(100), mappings).Register(running, m))
	var group sync.WaitGroup
	group.Go(func() {
		if err := m.Start(running); err != nil {
			t.Errorf("running the controller, %v", err)
		}
	})
	return func() { cancel(); group.Wait() }
}

// agentApplies writes as another manager does, heartbeat and all.
func agentApplies(ctx context.Context, c *cluster.Cluster, node, bootID string) error {
	now := time.Now().UTC().Format(time.RFC3339)
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "autorepair.sh/v1alpha1", "kind": "NodeHealth", "metadata": map[string]any{"name": node},
		"bootID":   bootID,
		"sources":  []any{map[string]any{"name": "interfaces", "state": "Active", "categories": []any{"Networking"}, "lastHeartbeat": now, "heartbeatInterval": "5m"}},
		"findings": []any{map[string]any{"source": "interfaces", "reason": "InterfaceNotUp", "subject": "eth0", "category": "Networking", "severity": "Fatal", "since": "2026-01-02T03:04:05Z"}},
	}}
	return c.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("agent"), client.ForceOwnership)
}

// TestOnAnAPIServer shows what a fake one cannot: two managers of one list, and a restart in between.
func TestOnAnAPIServer(t *testing.T) {
	if testing.Short() || os.Getenv("LOCALCLUSTER") == "" {
		t.Skip("SKIPPED, NOT PASSED: needs a local cluster; run make localcluster and set LOCALCLUSTER to bin/localcluster")
	}
	ctx := t.Context()
	c, err := cluster.Up(ctx, cluster.Options{Name: "detection", Karpenter: "none", Out: os.Stderr})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Down(context.Background())) })
	_, err = c.Kubectl(ctx, "apply", "--server-side", "-f", "pkg/apis/crds")
	require.NoError(t, err)
	_, err = c.Kubectl(ctx, "wait", "--for=condition=Established", "crd/nodehealths.autorepair.sh", "--timeout=30s")
	require.NoError(t, err)

	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "detection", Labels: map[string]string{karpv1.NodePoolLabelKey: "pool", karpv1.NodeInitializedLabelKey: "true"}}}
	require.NoError(t, c.Create(ctx, node))
	require.NoError(t, c.SetNodeCondition(ctx, node.Name, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}))
	stop := start(t, c)
	defer func() { stop() }()
	read := func() *v1alpha1.NodeHealth {
		health := &v1alpha1.NodeHealth{}
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(node), health); err != nil {
			return nil
		}
		return health
	}
	eventually := func(want func(*v1alpha1.NodeHealth) bool, message string) {
		t.Helper()
		require.Eventually(t, func() bool { health := read(); return health != nil && want(health) }, 20*time.Second, 20*time.Millisecond, message)
	}
	states := func(reason string) func(*v1alpha1.NodeHealth) bool {
		return func(h *v1alpha1.NodeHealth) bool { return since(h, reason) != nil }
	}
	eventually(func(h *v1alpha1.NodeHealth) bool { return len(h.Sources) == len(detectors.Sources) }, "the healthy node gets its NodeHealth")

	// Both write at the same time, again and again.
	var group sync.WaitGroup
	group.Go(func() {
		for range 40 {
			if err := agentApplies(ctx, c, node.Name, "boot"); err != nil {
				t.Errorf("applying as the agent, %v", err)
			}
		}
	})
	for range 10 {
		require.NoError(t, c.Break(ctx, node.Name))
		eventually(states(cluster.Fault.Reason), "the fault is found")
		require.NoError(t, c.Heal(ctx, node.Name))
		eventually(func(h *v1alpha1.NodeHealth) bool { return since(h, cluster.Fault.Reason) == nil }, "the fault is gone")
	}
	require.NoError(t, c.Break(ctx, node.Name))
	broken := time.Now()
	eventually(states(cluster.Fault.Reason), "the fault is found")
	t.Logf("from the Node condition to the NodeHealth: %s", time.Since(broken))
	group.Wait()
	health := read()
	require.Len(t, health.Sources, len(detectors.Sources)+1, "nothing lost, nothing doubled")
	require.Len(t, health.Findings, 2)
	require.Equal(t, "boot", health.BootID)
	require.Equal(t, node.UID, health.OwnerReferences[0].UID)

	// The fault stands over a restart, while its message changes.
	began := since(health, cluster.Fault.Reason)
	stop()
	time.Sleep(1100 * time.Millisecond)
	changed := cluster.Fault
	changed.Message = "the same in other words"
	require.NoError(t, c.SetNodeCondition(ctx, node.Name, changed))
	stop = start(t, c)
	eventually(func(h *v1alpha1.NodeHealth) bool {
		for _, finding := range h.Findings {
			if finding.Message == changed.Message {
				return true
			}
		}
		return false
	}, "the restarted controller has looked")
	require.True(t, began.Equal(since(read(), cluster.Fault.Reason)), "a restart does not move the start of a fault")

	// At rest nobody writes.
	version := read().ResourceVersion
	require.NoError(t, c.Client.Patch(ctx, node, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"touched":"yes"}}}`))))
	time.Sleep(time.Second)
	require.Equal(t, version, read().ResourceVersion, "nothing is written when nothing has changed")

	require.NoError(t, c.Heal(ctx, node.Name))
	eventually(func(h *v1alpha1.NodeHealth) bool { return since(h, cluster.Fault.Reason) == nil }, "the fault is gone")
	require.NotNil(t, since(read(), "InterfaceNotUp"), "the agent's finding is the agent's")
}

// since gives the start of the finding with the reason, nil where it is not stated.
func since(health *v1alpha1.NodeHealth, reason string) *metav1.Time {
	for i := range health.Findings {
		if health.Findings[i].Reason == reason {
			return &health.Findings[i].Since
		}
	}
	return nil
}
