package decision

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

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

// add takes repairs in the order in which they ended. Repairs that were canceled or yielded prove nothing, nor do those
// that succeeded without a replacement that was watched.
func (r *record) add(repair *v1alpha1.NodeRepair, now time.Time) {
	end := repair.Status.FinishedAt
	if end == nil || !recently(end.Time, now, recordPeriod) {
		return
	}
	switch repair.Status.Phase {
	case v1alpha1.PhaseSucceeded:
		if proves(repair) {
			r.successes++
			r.failures = 0
		}
	case v1alpha1.PhaseFailed:
		r.successes = 0
		r.failures++
		r.lastFailure = end.Time
	default:
	}
}

// proves says whether a repair that succeeded shows that new nodes are any good. The end of an empty node, or of one that
// went before its replacement, shows nothing, nor does a replacement that was removed before its time was over: were
// they counted, a wave of them would open the way for itself.
func proves(repair *v1alpha1.NodeRepair) bool {
	verified := meta.FindStatusCondition(repair.Status.Conditions, v1alpha1.RepairConditionVerified)
	if verified != nil && verified.Reason == v1alpha1.VerifiedReplacementGone {
		return false
	}
	return repair.Spec.Action == v1alpha1.ActionReboot || (repair.Spec.Replacements > 0 && !repair.Spec.TerminateFirst)
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
