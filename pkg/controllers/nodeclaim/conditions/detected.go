package conditions

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// detections remember which faults have been counted. The condition in the API says so too, also after a restart; but
// the cache shows it a moment later, and a NodeClaim may be looked at again before that.
type detections struct {
	mu sync.Mutex
	// since is the start of the fault that was counted last: at most one for each NodeClaim and category.
	since map[detection]time.Time
}

type detection struct {
	nodeClaim string
	category  v1alpha1.Category
}

// first says whether the fault has not been counted yet, and remembers it.
func (d *detections) first(of detection, since time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if counted, ok := d.since[of]; ok && counted.Equal(since) {
		return false
	}
	if d.since == nil {
		d.since = map[detection]time.Time{}
	}
	d.since[of] = since
	return true
}

// forget a NodeClaim that is gone.
func (d *detections) forget(nodeClaim string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, category := range health.Categories {
		delete(d.since, detection{nodeClaim, category})
	}
}

// detected tells the observer how long it took from the start of each fault until its condition was written. Left out
// is what was known before: faults of a source that was silent meanwhile, and those of a node that nobody has looked at
// until now.
func (c *Controller) detected(nodeClaim string, before, after []metav1.Condition, verdict diagnosis.Verdict, now time.Time) {
	if c.observe == nil || len(before) == 0 {
		return
	}
	for _, category := range health.Categories {
		is, was := turned(category, before, after)
		if is == nil || is.Status != metav1.ConditionFalse || was == metav1.ConditionUnknown {
			continue
		}
		since, ok := since(verdict, category, is.Reason)
		if ok && c.detections.first(detection{nodeClaim, category}, since) {
			c.observe(category, now.Sub(since))
		}
	}
}

// since gives the start of the fault by which a condition is False.
func since(verdict diagnosis.Verdict, category v1alpha1.Category, reason string) (time.Time, bool) {
	for i := range verdict.Judgements {
		if f := &verdict.Judgements[i].Finding; f.Category == category && f.Reason == reason {
			return f.Since.Time, true
		}
	}
	return time.Time{}, false
}
