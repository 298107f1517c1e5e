package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"
	disruptionutils "sigs.k8s.io/karpenter/pkg/utils/disruption"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"
	"sigs.k8s.io/karpenter/pkg/utils/pdb"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// maxPodBlockers bounds how many pods are named for one node; the rest is counted.
const maxPodBlockers = 5

// workloads looks at the pods of sick nodes. The PodDisruptionBudgets are read once, when the first sick node asks.
type workloads struct {
	clock   clock.Clock
	cache   client.Reader
	read    bool
	limits  pdb.Limits
	budgets map[client.ObjectKey]*policyv1.PodDisruptionBudget
	problem string
}

func newWorkloads(clk clock.Clock, cache client.Reader) *workloads {
	return &workloads{clock: clk, cache: cache}
}

// describe fills in what the node's pods mean for a repair: how many have to move, what that costs, and which of them
// may not be disrupted now. pods is where the pods are read from.
func (w *workloads) describe(ctx context.Context, pods client.Reader, entry *decision.Node, nodeClaim *karpv1.NodeClaim) {
	if entry.NodeName == "" {
		return
	}
	w.readBudgets(ctx)
	if w.problem != "" {
		entry.Unreadable = append(entry.Unreadable, w.problem)
	}
	bound, err := nodeutils.GetPods(ctx, readOnly{reader: pods}, entry.NodeName)
	if err != nil {
		entry.Unreadable = append(entry.Unreadable, fmt.Sprintf("the pods of Node %s: %s", entry.NodeName, err))
		return
	}
	slices.SortFunc(bound, func(a, b *corev1.Pod) int { return strings.Compare(podName(a), podName(b)) })
	entry.ReschedulablePods = lo.CountBy(bound, podutils.IsReschedulable)
	entry.DisruptionCost = disruptionutils.ReschedulingCost(ctx, bound) * disruptionutils.LifetimeRemaining(w.clock, nil, nodeClaim)
	entry.PodBlockers = w.blockers(bound)
}

func (w *workloads) readBudgets(ctx context.Context) {
	if w.read {
		return
	}
	w.read = true
	list := &policyv1.PodDisruptionBudgetList{}
	if err := w.cache.List(ctx, list); err != nil {
		w.problem = fmt.Sprintf("the PodDisruptionBudgets: %s", err)
		return
	}
	w.budgets = make(map[client.ObjectKey]*policyv1.PodDisruptionBudget, len(list.Items))
	for i := range list.Items {
		w.budgets[client.ObjectKeyFromObject(&list.Items[i])] = &list.Items[i]
	}
	limits, err := pdb.NewLimits(ctx, readOnly{reader: w.cache})
	if err != nil {
		w.problem = fmt.Sprintf("the PodDisruptionBudgets: %s", err)
		return
	}
	w.limits = limits
}

// blockers says of each pod that may not be disrupted now why that is so.
func (w *workloads) blockers(pods []*corev1.Pod) []string {
	var found []string
	for _, pod := range pods {
		if !podutils.IsDisruptable(pod, w.clock, silent{}) {
			found = append(found, fmt.Sprintf("Pod %s has the annotation %s", podName(pod), karpv1.DoNotDisruptAnnotationKey))
			continue
		}
		keys, ok := w.limits.CanEvictPods([]*corev1.Pod{pod}, w.clock, silent{})
		if ok || w.evictableUnready(pod, keys) {
			continue
		}
		names := lo.Map(keys, func(key client.ObjectKey, _ int) string { return key.String() })
		slices.Sort(names)
		if len(names) > 1 {
			found = append(found, fmt.Sprintf("Pod %s is selected by several PodDisruptionBudgets (%s), so it cannot be evicted",
				podName(pod), strings.Join(names, ", ")))
			continue
		}
		found = append(found, fmt.Sprintf("Pod %s is held by PodDisruptionBudget %s, which allows no disruption now",
			podName(pod), strings.Join(names, ", ")))
	}
	if len(found) > maxPodBlockers {
		found = append(found[:maxPodBlockers], fmt.Sprintf("%d more pods may not be disrupted", len(found)-maxPodBlockers))
	}
	return found
}

// evictableUnready says whether the API server evicts the pod although its budget allows no disruption: a pod that is
// not Ready, under the default unhealthyPodEvictionPolicy, while enough others are. Karpenter's own reckoning leaves
// this out, and a dead node would then be blocked by the very pods that it has taken down.
func (w *workloads) evictableUnready(pod *corev1.Pod, keys []client.ObjectKey) bool {
	if len(keys) != 1 || podReady(pod) {
		return false
	}
	budget, ok := w.budgets[keys[0]]
	return ok && budget.Status.ObservedGeneration >= budget.Generation && budget.Status.DesiredHealthy > 0 &&
		budget.Status.CurrentHealthy >= budget.Status.DesiredHealthy
}

func podReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func podName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// readOnly lets Karpenter's helpers, which ask for a Client and call nothing but List, read through a Reader.
type readOnly struct {
	client.Client
	reader client.Reader
}

// List reads through the Reader.
func (r readOnly) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return r.reader.List(ctx, list, opts...)
}

// silent drops the events that Karpenter's helpers would publish; Karpenter publishes them itself.
type silent struct{}

// Publish does nothing.
func (silent) Publish(...events.Event) {}
