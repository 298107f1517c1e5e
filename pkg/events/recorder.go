package events

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
)

const (
	// perSecond and burst bound the events of each reason: where half of 5,000 nodes turn sick at once the API server
	// has other things to do, and the conditions say it all the same.
	perSecond = 10
	burst     = 200
	// maxNote is the longest note, in bytes, that the API server takes in an event, less a margin for the ellipsis
	// (pkg/apis/core/validation/events.go of Kubernetes 1.36: 1024).
	maxNote = 1000
)

// Recorder hands events on, bounded in number and length. What is the same within six minutes client-go makes one
// series of: same object, reason, action and NodeRepair.
type Recorder struct {
	next  events.EventRecorder
	clock clock.PassiveClock
	count func(reason string, handedOn bool)

	mu       sync.Mutex
	limiters map[string]*rate.Limiter // as many as there are reasons
}

var _ events.EventRecorder = (*Recorder)(nil)

// NewRecorder bounds the events that next writes. count hears of each, and whether it was handed on.
func NewRecorder(next events.EventRecorder, clk clock.PassiveClock, count func(reason string, handedOn bool)) *Recorder {
	return &Recorder{next: next, clock: clk, count: count, limiters: map[string]*rate.Limiter{}}
}

// Eventf hands one event on, unless too many of its reason have come at once.
func (r *Recorder) Eventf(regarding, related runtime.Object, eventType, reason, action, note string, args ...any) {
	admitted := r.admits(reason)
	r.count(reason, admitted)
	if admitted {
		r.next.Eventf(regarding, related, eventType, reason, action, "%s", clip(fmt.Sprintf(note, args...)))
	}
}

func (r *Recorder) admits(reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter, ok := r.limiters[reason]
	if !ok {
		limiter = rate.NewLimiter(perSecond, burst)
		r.limiters[reason] = limiter
	}
	return limiter.AllowN(r.clock.Now(), 1)
}

func clip(note string) string {
	if len(note) <= maxNote {
		return note
	}
	return strings.ToValidUTF8(note[:maxNote], "") + "…"
}
