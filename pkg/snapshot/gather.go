// Package snapshot gathers what a decision rests on from the API into one decision.Input.
package snapshot

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// Gatherer turns the present state of the cluster into a decision.Input.
type Gatherer struct {
	clock     clock.Clock
	cache     client.Reader
	karpenter func() decision.Karpenter
	reboots   bool
	providers []string
}

// NewGatherer makes a Gatherer that reads from cache, which must index Pods by
// spec.nodeName and Nodes by spec.providerID. karpenter tells what is
// known of the Karpenter that the nodes belong to; executorReboots, whether whoever carries decisions out can reboot.
func NewGatherer(clk clock.Clock, cache client.Reader, karpenter func() decision.Karpenter, executorReboots bool) *Gatherer {
	return &Gatherer{clock: clk, cache: cache, karpenter: karpenter, reboots: executorReboots, providers: RebootProviders}
}

// RebootedBy replaces RebootProviders, the API groups of the node classes whose provider reboots instances in place.
func (g *Gatherer) RebootedBy(groups []string) *Gatherer {
	g.providers = groups
	return g
}

// Gather reads everything anew. What belongs to one node or one NodePool and cannot be read is recorded there and
// closes its gate; an error means that nothing can be decided at all. The objects that the Input points to belong to
// the cache and must not be changed.
func (g *Gatherer) Gather(ctx context.Context) (decision.Input, error) {
	ctx = WithKarpenterOptions(ctx)
	in := decision.Input{
		Now: g.clock.Now(), Karpenter: g.karpenter(), ExecutorReboots: g.reboots, NodePools: map[string]decision.NodePool{},
	}

	policies, err := listPolicies(ctx, g.cache)
	if err != nil {
		return in, err
	}
	if in.Pauses, err = pauses(ctx, g.cache); err != nil {
		return in, err
	}
	nodePools := &karpv1.NodePoolList{}
	if err := g.cache.List(ctx, nodePools); err != nil {
		return in, fmt.Errorf("listing nodepools, %w", err)
	}
	for i := range nodePools.Items {
		in.NodePools[nodePools.Items[i].Name] = decision.NodePool{Object: &nodePools.Items[i], Pauses: poolPauses(&nodePools.Items[i])}
	}
	if in.Repairs, err = ListRepairs(ctx, g.cache); err != nil {
		return in, err
	}
	nodeClaims := &karpv1.NodeClaimList{}
	if err := g.cache.List(ctx, nodeClaims, client.UnsafeDisableDeepCopy); err != nil {
		return in, fmt.Errorf("listing nodeclaims, %w", err)
	}
	nodes, err := g.indexNodes(ctx)
	if err != nil {
		return in, err
	}
	health, err := g.indexHealth(ctx)
	if err != nil {
		return in, err
	}
	workloads := newWorkloads(g.clock, g.cache)
	in.Nodes = make([]decision.Node, 0, len(nodeClaims.Items))
	for i := range nodeClaims.Items {
		nodeClaim := &nodeClaims.Items[i]
		if isLaunching(nodeClaim) {
			in.Launching++
		}
		node, problems := nodes.of(nodeClaim)
		entry := newEntry(nodeClaim, node, in.NodePools[nodeClaim.Labels[karpv1.NodePoolLabelKey]].Object)
		entry.Unreadable, entry.ProviderReboots = problems, providerReboots(nodeClaim, g.providers)
		tellReboots(&entry, nodeClaim, node, health[entry.NodeName])
		diagnose(&entry, nodeClaim, health[entry.NodeName], policies, in.Now)
		if sick(entry) {
			workloads.describe(ctx, g.cache, &entry, nodeClaim)
		}
		in.Nodes = append(in.Nodes, entry)
	}
	return in, nil
}

// ListRepairs gives all NodeRepairs that reader knows.
func ListRepairs(ctx context.Context, reader client.Reader) ([]v1alpha1.NodeRepair, error) {
	repairs := &v1alpha1.NodeRepairList{}
	if err := reader.List(ctx, repairs, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing noderepairs, %w", err)
	}
	return repairs.Items, nil
}

func listPolicies(ctx context.Context, reader client.Reader) (*diagnosis.Policies, error) {
	policies := &v1alpha1.RepairPolicyList{}
	if err := reader.List(ctx, policies); err != nil {
		return nil, fmt.Errorf("listing repairpolicies, %w", err)
	}
	return diagnosis.Compile(policies.Items), nil
}

// nodeIndex finds the Node of a NodeClaim.
type nodeIndex struct {
	byProviderID map[string][]*corev1.Node
	byName       map[string]*corev1.Node
}

func (g *Gatherer) indexNodes(ctx context.Context) (nodeIndex, error) {
	list := &corev1.NodeList{}
	if err := g.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nodeIndex{}, fmt.Errorf("listing nodes, %w", err)
	}
	index := nodeIndex{byProviderID: make(map[string][]*corev1.Node, len(list.Items)), byName: make(map[string]*corev1.Node, len(list.Items))}
	for i := range list.Items {
		node := &list.Items[i]
		index.byName[node.Name] = node
		if node.Spec.ProviderID != "" {
			index.byProviderID[node.Spec.ProviderID] = append(index.byProviderID[node.Spec.ProviderID], node)
		}
	}
	return index, nil
}

// of gives the Node that shares the NodeClaim's provider ID, as Karpenter matches them. It is nil before the instance
// has joined the cluster. Where the match is not plain, the problems say so.
func (n nodeIndex) of(nodeClaim *karpv1.NodeClaim) (*corev1.Node, []string) {
	var matches []*corev1.Node
	if nodeClaim.Status.ProviderID != "" {
		matches = n.byProviderID[nodeClaim.Status.ProviderID]
	}
	switch {
	case len(matches) == 1:
		return matches[0], nil
	case len(matches) > 1:
		return matches[0], []string{fmt.Sprintf("%d Nodes share the provider ID %s of the NodeClaim", len(matches), nodeClaim.Status.ProviderID)}
	case nodeClaim.Status.NodeName == "" || !nodeClaim.DeletionTimestamp.IsZero():
		return nil, nil
	default:
		if node, ok := n.byName[nodeClaim.Status.NodeName]; ok {
			return node, []string{fmt.Sprintf("Node %s does not have the provider ID of the NodeClaim", node.Name)}
		}
		return nil, []string{fmt.Sprintf("Node %s of the NodeClaim does not exist", nodeClaim.Status.NodeName)}
	}
}

func (g *Gatherer) indexHealth(ctx context.Context) (map[string]*v1alpha1.NodeHealth, error) {
	list := &v1alpha1.NodeHealthList{}
	if err := g.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodehealths, %w", err)
	}
	index := make(map[string]*v1alpha1.NodeHealth, len(list.Items))
	for i := range list.Items {
		index[list.Items[i].Name] = &list.Items[i]
	}
	return index, nil
}

// isLaunching says whether the NodeClaim is a replacement of ours that has no instance yet.
func isLaunching(nodeClaim *karpv1.NodeClaim) bool {
	return nodeClaim.Labels[v1alpha1.NodeRepairLabel] != "" && nodeClaim.DeletionTimestamp.IsZero() &&
		!conditionTrue(nodeClaim, karpv1.ConditionTypeLaunched)
}

// diagnose fills in what the findings and the policies make of the node.
func diagnose(entry *decision.Node, nodeClaim *karpv1.NodeClaim, health *v1alpha1.NodeHealth, policies *diagnosis.Policies, now time.Time) {
	entry.Verdict = policies.Diagnose(now, diagnosis.Subject{Name: nodeClaim.Name, Labels: nodeClaim.Labels, Health: health}).Verdict
	if health == nil {
		return
	}
	for _, finding := range health.Findings {
		if finding.Category == v1alpha1.CategoryRequest && finding.Severity == v1alpha1.SeverityFatal {
			entry.Requested = true
		}
	}
}

// sick says whether there is anything to decide about the node.
func sick(entry decision.Node) bool { return len(entry.Verdict.Judgements) > 0 }
