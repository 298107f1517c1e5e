package repair

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
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
