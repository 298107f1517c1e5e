package snapshot

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// Paused counts, by kind, the stops that hold at now: RepairPauses, RepairPolicies in mode Paused, NodePools that are
// paused, and Nodes with a veto. Every kind is there, those without a stop too.
func Paused(ctx context.Context, reader client.Reader, now time.Time) (map[string]int, error) {
	all, err := pauses(ctx, reader)
	if err != nil {
		return nil, err
	}
	policies := &v1alpha1.RepairPolicyList{}
	if err := reader.List(ctx, policies, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing repairpolicies, %w", err)
	}
	pools := &karpv1.NodePoolList{}
	if err := reader.List(ctx, pools, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodepools, %w", err)
	}
	nodes := &corev1.NodeList{}
	if err := reader.List(ctx, nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes, %w", err)
	}
	out := map[string]int{"RepairPause": len(decision.Holding(all, now)), "RepairPolicy": 0, "NodePool": 0, "Node": 0}
	for i := range policies.Items {
		if decision.ModeAt(&policies.Items[i], now) == v1alpha1.ModePaused {
			out["RepairPolicy"]++
		}
	}
	for i := range pools.Items {
		if len(NodePoolStops(&pools.Items[i], now)) > 0 {
			out["NodePool"]++
		}
	}
	for i := range nodes.Items {
		if stop, ok := NodeVeto(&nodes.Items[i]); ok && stop.Active(now) {
			out["Node"]++
		}
	}
	return out, nil
}

// NodePoolStops gives the pauses of a NodePool that hold at now.
func NodePoolStops(nodePool *karpv1.NodePool, now time.Time) []decision.Stop {
	return decision.Holding(poolPauses(nodePool), now)
}
