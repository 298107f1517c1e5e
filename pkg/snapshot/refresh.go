package snapshot

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// Refresh reads one node anew, by the reader: its NodeClaim, Node, NodeHealth, NodePool and pods, and all
// RepairPolicies and RepairPauses. NodeRepairs come from the cache: nobody else writes them, and a list of them carries all their
// evidence. It replaces their entries in the Input and moves its Now. A NodeClaim that is gone leaves the Input. It is
// for the last look before what cannot be undone.
func (g *Gatherer) Refresh(ctx context.Context, reader client.Reader, in *decision.Input, nodeClaimName string) error {
	ctx = WithKarpenterOptions(ctx)
	nodeClaim := &karpv1.NodeClaim{}
	if err := reader.Get(ctx, types.NamespacedName{Name: nodeClaimName}, nodeClaim); err != nil {
		if apierrors.IsNotFound(err) {
			in.Nodes = slices.DeleteFunc(in.Nodes, func(entry decision.Node) bool { return entry.NodeClaim == nodeClaimName })
			return nil
		}
		return fmt.Errorf("getting nodeclaim, %w", err)
	}
	policies, err := listPolicies(ctx, reader)
	if err != nil {
		return err
	}
	if in.Pauses, err = pauses(ctx, reader); err != nil {
		return err
	}
	if in.Repairs, err = ListRepairs(ctx, g.cache); err != nil {
		return err
	}
	nodePool, err := refreshNodePool(ctx, reader, in, nodeClaim.Labels[karpv1.NodePoolLabelKey])
	if err != nil {
		return err
	}
	node, problems, err := g.readNode(ctx, reader, nodeClaim)
	if err != nil {
		return err
	}
	entry := newEntry(nodeClaim, node, nodePool)
	entry.Unreadable, entry.ProviderReboots = problems, providerReboots(nodeClaim, g.providers)
	health, err := readHealth(ctx, reader, entry.NodeName)
	if err != nil {
		return err
	}
	in.Now = g.clock.Now()
	tellReboots(&entry, nodeClaim, node, health)
	diagnose(&entry, nodeClaim, health, policies, in.Now)
	if sick(entry) {
		newWorkloads(g.clock, g.cache).describe(ctx, reader, &entry, nodeClaim)
	}
	replaceEntry(in, entry)
	return nil
}

// Stops gives what people have said by now against the repair of a NodeClaim, as the reader has it: pauses and vetoes.
// It reads little, so that it can be asked right before each write. node and policy are the names of the NodeClaim's
// Node and of the RepairPolicy that governs it; empty where there is none.
func (g *Gatherer) Stops(ctx context.Context, reader client.Reader, nodeClaim, node, policy string) ([]decision.Blocker, error) {
	in := decision.Input{Now: g.clock.Now(), NodePools: map[string]decision.NodePool{}}
	var err error
	if in.Pauses, err = pauses(ctx, reader); err != nil {
		return nil, err
	}
	claim := &karpv1.NodeClaim{}
	if found, err := find(ctx, reader, nodeClaim, claim); err != nil || !found {
		return decision.Stops(in, ""), err
	}
	nodePool, err := refreshNodePool(ctx, reader, &in, claim.Labels[karpv1.NodePoolLabelKey])
	if err != nil {
		return nil, err
	}
	entry := decision.Node{
		NodeClaimUID: claim.UID, NodePool: claim.Labels[karpv1.NodePoolLabelKey], Zone: claim.Labels[corev1.LabelTopologyZone],
	}
	var known *corev1.Node
	n := &corev1.Node{}
	found, err := find(ctx, reader, node, n)
	if err != nil {
		return nil, err
	}
	if found {
		known = n
	}
	entry.Vetoes = vetoes(claim, known, nodePool)
	p := &v1alpha1.RepairPolicy{}
	if found, err = find(ctx, reader, policy, p); err != nil {
		return nil, err
	}
	if found {
		entry.Verdict.Policy = p
	}
	in.Nodes = []decision.Node{entry}
	return decision.Stops(in, claim.UID), nil
}

// PausedZones gives the zones in which people, or what watches over zones, want nothing launched now.
func (g *Gatherer) PausedZones(ctx context.Context, reader client.Reader) ([]string, error) {
	stops, err := pauses(ctx, reader)
	return decision.PausedZones(stops, g.clock.Now()), err
}

// find reads an object by name; false where there is none, or the name is empty.
func find(ctx context.Context, reader client.Reader, name string, object client.Object) (bool, error) {
	if name == "" {
		return false, nil
	}
	if err := reader.Get(ctx, types.NamespacedName{Name: name}, object); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("getting %T %s, %w", object, name, err)
	}
	return true, nil
}

// replaceEntry puts the entry in the place of the NodeClaim's older one.
func replaceEntry(in *decision.Input, entry decision.Node) {
	index := slices.IndexFunc(in.Nodes, func(other decision.Node) bool { return other.NodeClaim == entry.NodeClaim })
	if index < 0 {
		in.Nodes = append(in.Nodes, entry)
		return
	}
	in.Nodes[index] = entry
}

func refreshNodePool(ctx context.Context, reader client.Reader, in *decision.Input, name string) (*karpv1.NodePool, error) {
	if name == "" {
		return nil, nil
	}
	nodePool := &karpv1.NodePool{}
	if err := reader.Get(ctx, types.NamespacedName{Name: name}, nodePool); err != nil {
		if apierrors.IsNotFound(err) {
			delete(in.NodePools, name)
			return nil, nil
		}
		return nil, fmt.Errorf("getting nodepool, %w", err)
	}
	in.NodePools[name] = decision.NodePool{Object: nodePool, Pauses: poolPauses(nodePool)}
	return nodePool, nil
}

// readNode reads the NodeClaim's Node, whose name the cache or the NodeClaim knows.
func (g *Gatherer) readNode(ctx context.Context, reader client.Reader, nodeClaim *karpv1.NodeClaim) (*corev1.Node, []string, error) {
	known, problems, err := g.knownNode(ctx, nodeClaim)
	if err != nil {
		return nil, nil, err
	}
	name := nodeClaim.Status.NodeName
	if known != nil {
		name = known.Name
	}
	if name == "" {
		return nil, problems, nil
	}
	node := &corev1.Node{}
	if err := reader.Get(ctx, types.NamespacedName{Name: name}, node); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, []string{fmt.Sprintf("Node %s of the NodeClaim does not exist", name)}, nil
		}
		return nil, nil, fmt.Errorf("getting node, %w", err)
	}
	return node, problems, nil
}

// knownNode gives the NodeClaim's Node as the cache has it, without a look at all the others.
func (g *Gatherer) knownNode(ctx context.Context, nodeClaim *karpv1.NodeClaim) (*corev1.Node, []string, error) {
	index := nodeIndex{byProviderID: map[string][]*corev1.Node{}, byName: map[string]*corev1.Node{}}
	if id := nodeClaim.Status.ProviderID; id != "" {
		list := &corev1.NodeList{}
		if err := g.cache.List(ctx, list, client.MatchingFields{"spec.providerID": id}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, nil, fmt.Errorf("listing nodes, %w", err)
		}
		for i := range list.Items {
			index.byProviderID[id] = append(index.byProviderID[id], &list.Items[i])
		}
	}
	if name := nodeClaim.Status.NodeName; name != "" {
		node := &corev1.Node{}
		err := g.cache.Get(ctx, types.NamespacedName{Name: name}, node)
		if client.IgnoreNotFound(err) != nil {
			return nil, nil, fmt.Errorf("getting node, %w", err)
		}
		if err == nil {
			index.byName[name] = node
		}
	}
	known, problems := index.of(nodeClaim)
	return known, problems, nil
}

func readHealth(ctx context.Context, reader client.Reader, nodeName string) (*v1alpha1.NodeHealth, error) {
	if nodeName == "" {
		return nil, nil
	}
	health := &v1alpha1.NodeHealth{}
	if err := reader.Get(ctx, types.NamespacedName{Name: nodeName}, health); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("getting nodehealth, %w", err)
	}
	return health, nil
}
