package conditions

import (
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	// Steps of repairs and changed words are told so often in all. Where few repairs are at work that is at once; in a
	// storm what follows on the heels of another is told in one write, stepPause later, and the NodeRepairs say it
	// anyway. What has been found, verdicts and new blockers are told at once, however many there are.
	stepsPerSecond = 5
	stepsBurst     = 20
	stepPause      = 2 * time.Second
	// launchesWithin is how long a NodeClaim that is launching is left to Karpenter, which writes it many times within
	// seconds: each write of ours in between makes one of its own fail and be tried again later. Where there is
	// something wrong to tell, it is told.
	launchesWithin = time.Minute
)

// pause says how long to wait before the NodeClaim may be written; zero takes the turn.
func (c *Controller) pause(claim *karpv1.NodeClaim, repair *v1alpha1.NodeRepair, existing, wanted []metav1.Condition, now time.Time) time.Duration {
	if repair != nil && repair.Status.Phase == "" {
		// Its first step is being taken, and says more.
		if left := repair.CreationTimestamp.Add(stepPause).Sub(now); left > 0 {
			return left
		}
	}
	if !initialized(claim) && !lo.SomeBy(wanted, wrong) {
		if left := claim.CreationTimestamp.Add(launchesWithin).Sub(now); left > 0 {
			return left
		}
	}
	// What is being terminated is Karpenter's to write too.
	urgent := claim.DeletionTimestamp.IsZero() && !same(turns(existing), turns(wanted))
	if !urgent && !c.steps.AllowN(now, 1) {
		return stepPause
	}
	return 0
}

// turns gives what has to be told at once: what has been found, the verdict, and why nothing is done about it; without
// the steps of a repair that is at work, and without the numbers in the words, which change with every other node.
func turns(conditions []metav1.Condition) []metav1.Condition {
	return lo.FilterMap(conditions, func(condition metav1.Condition, _ int) (metav1.Condition, bool) {
		if wrong(condition) && condition.Status == metav1.ConditionTrue {
			condition.Message = ""
		}
		return condition, condition.Type != v1alpha1.ConditionRepairing
	})
}

func initialized(claim *karpv1.NodeClaim) bool {
	return lo.SomeBy(claim.Status.Conditions, func(s status.Condition) bool {
		return s.Type == karpv1.ConditionTypeInitialized && s.IsTrue()
	})
}

// wrong says whether the condition is more than a fact that holds.
func wrong(condition metav1.Condition) bool {
	switch condition.Type {
	case v1alpha1.ConditionUnhealthy, v1alpha1.ConditionRepairBlocked, v1alpha1.ConditionRepairing:
		return true
	default:
		return condition.Status == metav1.ConditionFalse
	}
}
