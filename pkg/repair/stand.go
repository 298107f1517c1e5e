package repair

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// Why a fenced node still stands for a while: the reasons of the condition Fenced.
const (
	fencedNodeGone     = "NodeGone"
	fenced             = "Fenced"
	mayBeDisrupted     = "MayBeDisrupted"
	mayBeConsolidated  = "MayBeConsolidated"
	disruptedWithin    = 15 * time.Second
	consolidatedWithin = 5 * time.Second
	// launchesFirst bounds how long a node that could go waits for the launches of other repairs. An unlaunched
	// NodeClaim stalls Karpenter's provisioning, and pods that are evicted meanwhile may need it.
	launchesFirst = 15 * time.Second
)

// hold says whether Karpenter may have had the node in hand when the fence was put up, by the NodeClaim as it is right
// after. Karpenter's methods take only nodes that are Drifted or Consolidatable, and its own repair those that are
// sick. What it had decided by then shows itself within the time that standsUntil gives.
func hold(claim *karpv1.NodeClaim, karpenter decision.Karpenter) string {
	conditions := claim.StatusConditions()
	switch {
	case karpenter.OwnRepair || conditions.Get(karpv1.ConditionTypeDrifted).IsTrue():
		return mayBeDisrupted
	case conditions.Get(karpv1.ConditionTypeConsolidatable).IsTrue():
		return mayBeConsolidated
	default:
		return fenced
	}
}

// standsUntil says until when the fenced node stands at least. Between drift's choice of a node and its mark on it lie
// the simulations of one pass, which take seconds in a large cluster. Consolidation and emptiness look at the node
// again right before the mark (validation.go of v1.15.0), and see the fence there.
func (e *Executor) standsUntil(repair *v1alpha1.NodeRepair) time.Time {
	condition := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionFenced)
	if condition == nil {
		return e.Clock.Now().Add(disruptedWithin)
	}
	switch condition.Reason {
	case mayBeDisrupted:
		return condition.LastTransitionTime.Add(disruptedWithin)
	case mayBeConsolidated:
		return condition.LastTransitionTime.Add(consolidatedWithin)
	default:
		return condition.LastTransitionTime.Time
	}
}

// othersLaunch says whether replacements of other repairs are being launched, or are about to be.
func (e *Executor) othersLaunch(ctx context.Context, repair *v1alpha1.NodeRepair) (bool, error) {
	repairs := &v1alpha1.NodeRepairList{}
	if err := e.Client.List(ctx, repairs, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("listing noderepairs, %w", err)
	}
	return slices.ContainsFunc(repairs.Items, func(r v1alpha1.NodeRepair) bool {
		switch r.Status.Phase {
		case "", v1alpha1.PhaseCommitted, v1alpha1.PhaseFencing, v1alpha1.PhaseProvisioning:
			return r.UID != repair.UID && r.Status.NextAttemptAt == nil && needsNone(&r) == ""
		default:
			return false
		}
	}), nil
}
