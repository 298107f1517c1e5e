package disruption

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
)

// candidates are the NodeClaims that the Method wants to disrupt, with their Nodes and NodePools as the cache has them.
func (c *Controller) candidates(ctx context.Context) ([]*karpdisruption.Candidate, error) {
	nodeClaims := &karpv1.NodeClaimList{}
	if err := c.kubeClient.List(ctx, nodeClaims, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodeclaims, %w", err)
	}
	var candidates []*karpdisruption.Candidate
	for i := range nodeClaims.Items {
		stateNode := state.NewNode()
		stateNode.NodeClaim = &nodeClaims.Items[i]
		candidate := &karpdisruption.Candidate{StateNode: stateNode}
		if !c.method.ShouldDisrupt(ctx, candidate) {
			continue
		}
		if err := c.complete(ctx, candidate); err != nil {
			return nil, err
		}
		candidates = append(candidates, candidate)
	}
	return candidates, nil
}

// complete fills in Node and NodePool. Where there is none the candidate goes on without: the decision says so.
func (c *Controller) complete(ctx context.Context, candidate *karpdisruption.Candidate) error {
	if name := candidate.NodeClaim.Status.NodeName; name != "" {
		node := &corev1.Node{}
		err := c.kubeClient.Get(ctx, client.ObjectKey{Name: name}, node)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("getting node, %w", err)
		}
		if err == nil {
			candidate.Node = node
		}
	}
	if name := candidate.NodeClaim.Labels[karpv1.NodePoolLabelKey]; name != "" {
		nodePool := &karpv1.NodePool{}
		err := c.kubeClient.Get(ctx, client.ObjectKey{Name: name}, nodePool)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("getting nodepool, %w", err)
		}
		if err == nil {
			candidate.NodePool = nodePool
		}
	}
	return nil
}
