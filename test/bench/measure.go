package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

const (
	pool = "bench"
	// tolerate is that of Karpenter's kwok provider for KWOKUnhealthy; ours is set to the same.
	tolerate = 30 * time.Second
)

// fault is one that stock Karpenter's kwok provider repairs too.
var fault = corev1.NodeCondition{Type: "KWOKUnhealthy", Status: corev1.ConditionTrue, Reason: "Broken", Message: "broken by the benchmark"}

const nodeConditions = `- conditionType: KWOKUnhealthy
  conditionStatus: "True"
  finding:
    category: Kernel
    severity: Fatal
`

// start brings a cluster up with its nodes.
func start(ctx context.Context, name, gates string, nodes int) (*cluster.Cluster, error) {
	say("%s: starting a cluster of %d nodes", name, nodes)
	c, err := cluster.Up(ctx, cluster.Options{Name: name, FeatureGates: gates})
	if err != nil {
		return nil, err
	}
	small := func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Resources.Requests = nil
		d.Spec.Template.Spec.Tolerations = append(d.Spec.Template.Spec.Tolerations, cluster.SilenceTolerated(time.Minute)...)
	}
	everything := func(np *karpv1.NodePool) { np.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "100%"}} }
	err = c.Create(ctx, cluster.NodeClass(pool), cluster.NodePool(pool, everything), cluster.Deployment("default", pool, int32(nodes), small))
	if err != nil {
		return c, err
	}
	last, trouble := time.Now(), error(nil)
	err = wait.PollUntilContextTimeout(ctx, 2*time.Second, 20*time.Minute, true, func(ctx context.Context) (bool, error) {
		ready, available, err := come(ctx, c)
		if err == nil && time.Since(last) > 20*time.Second {
			last = time.Now()
			say("%s: %d of %d nodes", name, len(ready), nodes)
		}
		trouble = err // an API server that is busy with so many nodes may not answer in time
		return err == nil && len(ready) >= nodes && available >= nodes, nil
	})
	if err != nil {
		return c, fmt.Errorf("waiting for %d nodes, %w", nodes, errors.Join(err, trouble))
	}
	return c, nil
}

// come gives the nodes that are Initialized, and how many of the pods are available.
func come(ctx context.Context, c *cluster.Cluster) ([]corev1.Node, int, error) {
	ready, err := initialized(ctx, c)
	if err != nil {
		return nil, 0, err
	}
	deployment := &appsv1.Deployment{}
	if err := c.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: pool}, deployment); err != nil {
		return nil, 0, fmt.Errorf("getting the Deployment, %w", err)
	}
	return ready, int(deployment.Status.AvailableReplicas), nil
}

func initialized(ctx context.Context, c *cluster.Cluster) ([]corev1.Node, error) {
	nodes := &corev1.NodeList{}
	if err := c.Client.List(ctx, nodes, client.MatchingLabels{karpv1.NodePoolLabelKey: pool, karpv1.NodeInitializedLabelKey: "true"}); err != nil {
		return nil, fmt.Errorf("listing Nodes, %w", err)
	}
	sort.Slice(nodes.Items, func(i, j int) bool { return nodes.Items[i].Name < nodes.Items[j].Name })
	return nodes.Items, nil
}

// startController runs ours beside Karpenter, and lets it settle.
func startController(ctx context.Context, c *cluster.Cluster) (*cluster.Controller, error) {
	if err := c.Install(ctx); err != nil {
		return nil, err
	}
	config := filepath.Join(c.Dir, "node-conditions.yaml")
	if err := os.WriteFile(config, []byte(nodeConditions), 0o600); err != nil {
		return nil, fmt.Errorf("writing the node conditions, %w", err)
	}
	// It is the only one, and nobody starts it again: where the machine is too busy for it to renew a lease it must not end.
	controller, err := c.StartController(ctx, "--leader-elect=false", "--node-conditions-config="+config)
	if err != nil {
		return nil, err
	}
	err = wait.PollUntilContextTimeout(ctx, time.Second, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		claims := &karpv1.NodeClaimList{}
		if err := c.Client.List(ctx, claims); err != nil {
			return false, fmt.Errorf("listing NodeClaims, %w", err)
		}
		return lo.EveryBy(claims.Items, func(claim karpv1.NodeClaim) bool {
			return claim.StatusConditions().Get(health.ConditionType(v1alpha1.CategoryKubelet)).IsTrue()
		}), nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("waiting for the controller to look at every node, %w", err), controller.Stop())
	}
	return controller, nil
}

func measureOurs(ctx context.Context, o options, f *figures) (seconds float64, err error) {
	c, err := start(ctx, "bench-ours", "", o.nodes)
	if c != nil {
		defer func() { err = errors.Join(err, c.Down(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return 0, err
	}
	controller, err := startController(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, controller.Stop()) }()
	if err := measureLatency(ctx, c, f); err != nil {
		return 0, err
	}
	if f.MemoryMiB[o.nodes], err = controller.ResidentMiB(); err != nil {
		return 0, err
	}
	policy := cluster.RepairPolicy(pool, func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Tolerate = metav1.Duration{Duration: tolerate}
		p.Spec.Replacement.MaxLaunching = lo.ToPtr[int32](10)
	})
	if err := c.Create(ctx, policy); err != nil {
		return 0, err
	}
	return allAtOnce(ctx, c, "ours", o.sick)
}

func measureStock(ctx context.Context, o options) (seconds float64, err error) {
	c, err := start(ctx, "bench-stock", "NodeRepair=true", o.nodes)
	if c != nil {
		defer func() { err = errors.Join(err, c.Down(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return 0, err
	}
	return allAtOnce(ctx, c, "stock", o.sick)
}

// allAtOnce makes nodes sick at the same moment, and gives the seconds from the end of the toleration until the last of
// them is gone.
func allAtOnce(ctx context.Context, c *cluster.Cluster, name string, sick int) (float64, error) {
	nodes, err := initialized(ctx, c)
	if err != nil {
		return 0, err
	}
	say("%s: making %d of %d nodes sick", name, sick, len(nodes))
	errs := make([]error, sick)
	workqueue.ParallelizeUntil(ctx, 20, sick, func(i int) { errs[i] = c.SetNodeCondition(ctx, nodes[i].Name, fault) })
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	eligible := time.Now().Add(tolerate)
	left := map[string]bool{}
	for _, node := range nodes[:sick] {
		left[node.Name] = true
	}
	if err := gone(ctx, c, left, func(there int) {
		say("%s: %d sick nodes left, %.1f s after the toleration", name, there, time.Since(eligible).Seconds())
	}); err != nil {
		return 0, fmt.Errorf("waiting for the sick nodes to go, %w", err)
	}
	return time.Since(eligible).Seconds(), nil
}

// gone watches until all the nodes are gone; polling would take from the API server what is measured.
func gone(ctx context.Context, c *cluster.Cluster, left map[string]bool, progress func(there int)) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	nodes := &metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	w, err := c.Client.Watch(ctx, nodes)
	if err != nil {
		return fmt.Errorf("watching Nodes, %w", err)
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		node, ok := event.Object.(*metav1.PartialObjectMetadata)
		if !ok || event.Type != watch.Deleted || !left[node.Name] {
			continue
		}
		delete(left, node.Name)
		if len(left)%10 == 0 {
			progress(len(left))
		}
		if len(left) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%d of the sick nodes are still there when the watch ends", len(left))
}

// measureLatency breaks and heals nodes one after another, and takes the time until a watcher sees the NodeClaim
// condition.
func measureLatency(ctx context.Context, c *cluster.Cluster, f *figures) error {
	nodes, err := initialized(ctx, c)
	if err != nil {
		return err
	}
	w, err := c.Client.Watch(ctx, &karpv1.NodeClaimList{})
	if err != nil {
		return fmt.Errorf("watching NodeClaims, %w", err)
	}
	defer w.Stop()
	say("ours: measuring the time from a Node condition to the NodeClaim condition")
	samples := []float64{}
	for _, node := range nodes[:min(200, len(nodes))] {
		began := time.Now()
		if err := c.SetNodeCondition(ctx, node.Name, fault); err != nil {
			return err
		}
		for seen := false; !seen; {
			select {
			case event := <-w.ResultChan():
				claim, ok := event.Object.(*karpv1.NodeClaim)
				seen = ok && claim.Status.NodeName == node.Name && claim.StatusConditions().Get(health.ConditionType(v1alpha1.CategoryKernel)).IsFalse()
			case <-time.After(30 * time.Second):
				return fmt.Errorf("no condition on the NodeClaim of Node %s within 30 s", node.Name)
			}
		}
		samples = append(samples, time.Since(began).Seconds())
		healed := fault
		healed.Status = corev1.ConditionFalse
		if err := c.SetNodeCondition(ctx, node.Name, healed); err != nil {
			return err
		}
	}
	sort.Float64s(samples)
	f.LatencyP50, f.LatencyP99, f.LatencyMax = samples[len(samples)/2], samples[len(samples)*99/100], samples[len(samples)-1]
	return nil
}

func measureLarge(ctx context.Context, o options, f *figures) (err error) {
	c, err := start(ctx, "bench-large", "", o.large)
	if c != nil {
		defer func() { err = errors.Join(err, c.Down(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return err
	}
	controller, err := startController(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.Stop()) }()
	// A minute lets the caches fill and the garbage of the start be collected.
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
		return ctx.Err()
	}
	f.MemoryMiB[o.large], err = controller.ResidentMiB()
	return err
}
