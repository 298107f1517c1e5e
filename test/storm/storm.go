// Package storm makes many nodes sick at once, rightly or wrongly, and counts what it costs.
package storm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// Fault is how a Node turns sick, and how it recovers.
type Fault struct {
	Strike, Heal func(ctx context.Context, c *cluster.Cluster, node string) error
}

// Condition is a fault that a Node condition tells: one that the kwok provider of Karpenter repairs too, after 30 s.
var Condition = Fault{
	Strike: func(ctx context.Context, c *cluster.Cluster, node string) error {
		return c.SetNodeCondition(ctx, node, corev1.NodeCondition{Type: "KWOKUnhealthy", Status: corev1.ConditionTrue, Reason: "Broken", Message: "told so by a detector"})
	},
	Heal: func(ctx context.Context, c *cluster.Cluster, node string) error {
		return c.SetNodeCondition(ctx, node, corev1.NodeCondition{Type: "KWOKUnhealthy", Status: corev1.ConditionFalse, Reason: "Fine", Message: "told so by a detector"})
	},
}

// Toleration of stock Karpenter's kwok provider for Condition.
const Toleration = 30 * time.Second

// NodeConditions is the configuration by which the controller takes Condition for a fault.
const NodeConditions = `- conditionType: KWOKUnhealthy
  conditionStatus: "True"
  finding:
    category: Kernel
    severity: Fatal
`

// Silence is a kubelet that is no longer heard of. kwok keeps a Node ready unless it has this label.
var Silence = Fault{
	Strike: func(ctx context.Context, c *cluster.Cluster, node string) error {
		if err := stage(ctx, c, node, `"unhealthy"`); err != nil {
			return err
		}
		return c.SetNodeCondition(ctx, node, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status."})
	},
	Heal: func(ctx context.Context, c *cluster.Cluster, node string) error {
		if err := stage(ctx, c, node, "null"); err != nil {
			return err
		}
		return c.SetNodeCondition(ctx, node, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"})
	},
}

func stage(ctx context.Context, c *cluster.Cluster, node, value string) error {
	body := fmt.Appendf(nil, `{"metadata":{"labels":{"kwok.x-k8s.io/stage":%s}}}`, value)
	err := c.Client.Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, client.RawPatch(types.MergePatchType, body))
	if err != nil {
		return fmt.Errorf("telling kwok about Node %q, %w", node, err)
	}
	return nil
}

// Options of a storm over one NodePool.
type Options struct {
	Pool  string
	Fault Fault
	// Struck says which nodes turn sick.
	Struck func(corev1.Node) bool
	// Most bounds how many are struck; 0: all that match.
	Most int
	// Spread is the time within which they turn sick, one after another.
	Spread time.Duration
	// Contagion is how long after its appearance each new node that Struck matches turns sick too; 0: never.
	Contagion time.Duration
	// Lasts is how long after the first strike the fault goes by itself, on every node that has it; 0: never.
	Lasts time.Duration
	// Window ends the storm: that long after it began, a person acts.
	Window time.Duration
	// UntilGone ends it as soon as all that were struck first are gone.
	UntilGone bool
}

// Result is what a storm cost.
type Result struct {
	Nodes  int `json:"nodes"`
	Struck int `json:"struck"`
	// Lost are nodes that stood before the storm and were given up in it, LostAgain those that came in it, stood, and
	// were given up too.
	Lost      int `json:"lost"`
	LostAgain int `json:"lostAgain"`
	// LostAfter are those of both that were given up after the fault had gone.
	LostAfter int `json:"lostAfter"`
	// Launched are NodeClaims made in it.
	Launched int `json:"launched"`
	// Most of the repairs at work and of the nodes fenced and deleting at any moment.
	Most cluster.Held `json:"most"`
	// Seconds from the first strike until it ended.
	Seconds float64 `json:"seconds"`
	// Blocked counts the NodeClaims by what they say holds up their repair, at the end.
	Blocked map[string]int `json:"blocked"`
	// Repairs counts the NodeRepairs by their phase, at the end.
	Repairs map[string]int `json:"repairs"`
	// Pods that are available at the end, on nodes that are ready.
	Pods int `json:"pods"`
}

// Run lets a storm pass over a NodePool. Afterwards the nodes are as they are; Calm heals them.
func Run(ctx context.Context, c *cluster.Cluster, o Options) (Result, error) {
	ledger, err := c.Keep(ctx, o.Pool)
	if err != nil {
		return Result{}, err
	}
	defer ledger.Close()
	before := ledger.Fates()
	nodes := lo.Filter(ledger.Nodes(), func(n corev1.Node, _ int) bool { return o.Struck(n) })
	if o.Most > 0 && len(nodes) > o.Most {
		nodes = nodes[:o.Most]
	}
	r := Result{Nodes: len(before), Struck: len(nodes)}
	began := time.Now()
	over := o.Window
	if o.Lasts > 0 {
		over = o.Lasts
	}
	if err := r.rage(ctx, c, ledger, before, nodes, o, began.Add(over)); err != nil {
		return r, err
	}
	if o.Lasts > 0 {
		lost := r.Lost + r.LostAgain
		if err := heal(ctx, c, ledger.Nodes(), o); err != nil {
			return r, err
		}
		sleep(ctx, time.Until(began.Add(o.Window)))
		r.count(ledger, before)
		r.LostAfter = r.Lost + r.LostAgain - lost
	}
	r.Seconds = time.Since(began).Seconds()
	r.Most = ledger.Most(o.Pool)
	r.Blocked = lo.CountValues(lo.FilterMap(ledger.Claims(), blockedBy))
	r.Repairs = lo.CountValuesBy(ledger.Repairs(), func(r v1alpha1.NodeRepair) string { return string(r.Status.Phase) })
	r.Pods, err = availablePods(ctx, c)
	return r, errors.Join(err, ctx.Err())
}

// rage strikes, and goes on until the storm is over.
func (r *Result) rage(ctx context.Context, c *cluster.Cluster, ledger *cluster.Ledger, before map[types.UID]cluster.Fate, nodes []corev1.Node, o Options, over time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	var contagion sync.WaitGroup
	defer contagion.Wait()
	defer cancel() // ends what is waited for
	if o.Contagion > 0 {
		contagion.Go(func() { spread(ctx, c, ledger, o) })
	}
	if err := strike(ctx, c, nodes, o); err != nil {
		return err
	}
	_ = ledger.Wait(time.Until(over), func() error {
		if r.count(ledger, before); o.UntilGone && r.Lost >= len(nodes) && ledger.Settled() {
			return nil
		}
		return errors.New("not over")
	})
	r.count(ledger, before)
	return nil
}

func availablePods(ctx context.Context, c *cluster.Cluster) (int, error) {
	deployments := &appsv1.DeploymentList{}
	if err := c.Client.List(ctx, deployments); err != nil {
		return 0, fmt.Errorf("listing Deployments, %w", err)
	}
	return lo.SumBy(deployments.Items, func(d appsv1.Deployment) int { return int(d.Status.AvailableReplicas) }), nil
}

func blockedBy(claim karpv1.NodeClaim, _ int) (string, bool) {
	for _, condition := range claim.Status.Conditions {
		if condition.Type == v1alpha1.ConditionRepairBlocked && condition.IsTrue() {
			return condition.Reason, true
		}
	}
	return "", false
}

func (r *Result) count(ledger *cluster.Ledger, before map[types.UID]cluster.Fate) {
	r.Lost, r.LostAgain, r.Launched = 0, 0, 0
	for uid, fate := range ledger.Fates() {
		_, old := before[uid]
		switch {
		case !old && fate.Stood && fate.Deleted:
			r.LostAgain++
			fallthrough
		case !old:
			r.Launched++
		case fate.Deleted:
			r.Lost++
		}
	}
}

func strike(ctx context.Context, c *cluster.Cluster, nodes []corev1.Node, o Options) error {
	errs := make([]error, len(nodes))
	began := time.Now()
	workqueue.ParallelizeUntil(ctx, 20, len(nodes), func(i int) {
		due := began.Add(o.Spread * time.Duration(i) / time.Duration(len(nodes)))
		if !sleep(ctx, time.Until(due)) {
			return
		}
		// One that is gone already has turned sick enough.
		errs[i] = client.IgnoreNotFound(o.Fault.Strike(ctx, c, nodes[i].Name))
	})
	return errors.Join(errs...)
}

// heal lets every node be well.
func heal(ctx context.Context, c *cluster.Cluster, nodes []corev1.Node, o Options) error {
	errs := make([]error, len(nodes))
	workqueue.ParallelizeUntil(ctx, 20, len(nodes), func(i int) {
		errs[i] = client.IgnoreNotFound(o.Fault.Heal(ctx, c, nodes[i].Name))
	})
	return errors.Join(errs...)
}

// spread makes new nodes sick.
func spread(ctx context.Context, c *cluster.Cluster, ledger *cluster.Ledger, o Options) {
	known := map[string]bool{}
	for _, node := range ledger.Nodes() {
		known[node.Name] = true
	}
	var striking sync.WaitGroup
	defer striking.Wait()
	for sleep(ctx, 200*time.Millisecond) {
		for _, node := range ledger.Nodes() {
			if known[node.Name] || !o.Struck(node) {
				continue
			}
			known[node.Name] = true
			striking.Go(func() {
				if sleep(ctx, o.Contagion) {
					_ = o.Fault.Strike(ctx, c, node.Name) // it may be gone by now
				}
			})
		}
	}
}

// sleep says false where the context ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Calm heals every node of the NodePool, waits until no repair is at work there, and forgets the repairs.
func Calm(ctx context.Context, c *cluster.Cluster, o Options) error {
	ledger, err := c.Keep(ctx, o.Pool)
	if err != nil {
		return err
	}
	defer ledger.Close()
	// A repair under way may bring one more node, so it is done twice.
	for range 2 {
		if err := heal(ctx, c, ledger.Nodes(), o); err != nil {
			return err
		}
		if err := ledger.Wait(5*time.Minute, func() error {
			if !ledger.Settled() {
				return fmt.Errorf("calming NodePool %q: repairs are still at work: %v", o.Pool, lo.CountValuesBy(ledger.Repairs(), func(r v1alpha1.NodeRepair) string { return string(r.Status.Phase) }))
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if len(ledger.Repairs()) == 0 {
		return nil
	}
	if err := c.Client.DeleteAllOf(ctx, &v1alpha1.NodeRepair{}, client.MatchingLabels{v1alpha1.NodePoolLabel: o.Pool}); err != nil {
		return fmt.Errorf("forgetting the repairs of NodePool %q, %w", o.Pool, err)
	}
	return nil
}

// InZone matches the nodes of a zone.
func InZone(zone string) func(corev1.Node) bool {
	return func(n corev1.Node) bool { return n.Labels[corev1.LabelTopologyZone] == zone }
}

// Any node.
func Any(corev1.Node) bool { return true }
