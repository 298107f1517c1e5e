package decision

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	// recordPeriod is how long the outcome of a repair speaks for or against the next.
	recordPeriod = time.Hour
	// maxWidth keeps the doubling bounded.
	maxWidth = 1 << 16
	// maxPause is the longest pause after failures in a row; the first is a minute, and each next is twice as long.
	maxPause = 10 * time.Minute
)

// record is how the repairs of a domain or NodePool ended lately.
type record struct {
	successes   int // since the last failure
	failures    int // in a row
	lastFailure time.Time
}

// proved says whether a repair that succeeded has shown a replacement to be healthy. Where nothing took the node's place,
// or what did was removed too soon, nobody knows whether it helped.
func proved(repair *v1alpha1.NodeRepair) bool {
	condition := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionVerified)
	return condition != nil && condition.Status == metav1.ConditionTrue && condition.Reason == v1alpha1.VerifiedHealthy
}

// endOf gives when a repair leaves its place in a suspect domain's width to the next, if all goes well: when its
// replacement has proved healthy. One that succeeded without a proof keeps its place for as long as that would have
// taken: without it nodes that need no replacement would go one after the other as fast as they drain. Zero where it is
// not known yet.
func endOf(repair *v1alpha1.NodeRepair) time.Time {
	verifyFor := repair.Spec.Replacement.WatchFor()
	switch repair.Status.Phase {
	case v1alpha1.PhaseVerifying:
		released := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionReleased)
		if released == nil {
			return time.Time{}
		}
		return released.LastTransitionTime.Add(verifyFor)
	case v1alpha1.PhaseSucceeded:
		if repair.Status.FinishedAt == nil || proved(repair) {
			return time.Time{}
		}
		return repair.Status.FinishedAt.Add(verifyFor)
	default:
		return time.Time{}
	}
}

// add takes repairs in the order in which they ended. Repairs that were canceled or yielded prove nothing.
func (r *record) add(repair *v1alpha1.NodeRepair, now time.Time) {
	end := repair.Status.FinishedAt
	if end == nil || !recently(end.Time, now, recordPeriod) {
		return
	}
	switch repair.Status.Phase {
	case v1alpha1.PhaseSucceeded:
		if !proved(repair) {
			return
		}
		r.successes++
		r.failures = 0
	case v1alpha1.PhaseFailed:
		r.successes = 0
		r.failures++
		r.lastFailure = end.Time
	default:
	}
}

// width is how many repairs a suspect domain may have at work: one, doubled with every success since the last failure.
func (r *record) width() int {
	width := 1
	for range r.successes {
		if width *= 2; width >= maxWidth {
			return maxWidth
		}
	}
	return width
}

// pausedUntil is when the next repair may start after failures in a row; zero where none failed last.
func (r *record) pausedUntil() time.Time {
	if r.failures == 0 {
		return time.Time{}
	}
	pause := time.Minute
	for range r.failures - 1 {
		if pause *= 2; pause >= maxPause {
			pause = maxPause
			break
		}
	}
	return r.lastFailure.Add(pause)
}
