package conditions

import (
	"maps"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	// writeEvery is how often steps and changed words are told on one NodeClaim at most, and stepsPerSecond how often
	// in all: what follows on the heels of another is told in one write, and in a storm the NodeRepairs say it anyway.
	// What has been found, verdicts and new blockers are told at once, however many there are.
	writeEvery     = 2 * time.Second
	stepsPerSecond = 5
	stepsBurst     = 20
	// Karpenter writes a NodeClaim that it launches or terminates many times within seconds, and each write of ours in
	// between makes one of its own fail and be tried again later. For that long we keep out of its way, unless there
	// is something wrong to tell.
	launchesWithin   = time.Minute
	terminatesWithin = 15 * time.Second
)

// pause says how long to wait before the NodeClaim may be written; zero takes the turn.
func (c *Controller) pause(claim *karpv1.NodeClaim, repair *v1alpha1.NodeRepair, existing, wanted []metav1.Condition, now time.Time) time.Duration {
	if repair != nil && repair.Status.Phase == "" {
		// Its first step is being taken, and says more.
		if left := repair.CreationTimestamp.Add(writeEvery).Sub(now); left > 0 {
			return left
		}
	}
	if left := karpenterWrites(claim, wanted).Sub(now); left > 0 {
		return left
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if same(turns(existing), turns(wanted)) {
		if left := c.written[claim.UID].Add(writeEvery).Sub(now); left > 0 {
			return min(left, writeEvery) // should the clock have been set back
		}
		if !c.steps.AllowN(now, 1) {
			return writeEvery
		}
	}
	maps.DeleteFunc(c.written, func(_ types.UID, at time.Time) bool { return now.Sub(at) >= writeEvery })
	c.written[claim.UID] = now
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

// karpenterWrites says until when Karpenter is busy with the NodeClaim; zero where it is not.
func karpenterWrites(claim *karpv1.NodeClaim, wanted []metav1.Condition) time.Time {
	if !claim.DeletionTimestamp.IsZero() {
		return claim.DeletionTimestamp.Add(terminatesWithin)
	}
	if !initialized(claim) && !lo.SomeBy(wanted, wrong) {
		return claim.CreationTimestamp.Add(launchesWithin)
	}
	return time.Time{}
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
