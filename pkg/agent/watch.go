package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

const (
	// lookTimeout is how long a look may take before its source counts as unable to see.
	lookTimeout = 30 * time.Second
	// soonest is the least time between two looks, however often a detector wakes.
	soonest = 100 * time.Millisecond
)

// watch runs one detector for as long as the agent lives: it looks at once and then at intervals, survives a look that
// panics or does not come back, and puts the findings on the board.
type watch struct {
	detector detector.Detector
	spec     detector.Spec
	clock    clock.Clock
	board    *Board
	metrics  *Metrics
	log      *slog.Logger
	// looked is called after each look, with its findings on the board.
	looked func()

	mu      sync.Mutex // guards what follows
	tracker *tracking.Tracker
	cursor  json.RawMessage
}

type result struct {
	look tracking.Look
	err  error
	took time.Duration
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) {
	if starter, ok := w.detector.(detector.Starter); ok {
		starter.Start(ctx)
	}
	var wake <-chan struct{}
	if waker, ok := w.detector.(detector.Waker); ok {
		wake = waker.Wake()
	}
	for ctx.Err() == nil {
		for !w.lookOnce(ctx) {
		}
		timer := w.clock.NewTimer(w.pause())
		select {
		case <-ctx.Done():
		case <-timer.C():
		case <-wake:
			if !w.sleep(ctx, soonest) {
				timer.Stop()
				return
			}
		}
		timer.Stop()
	}
}

func (w *watch) sleep(ctx context.Context, d time.Duration) bool {
	timer := w.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// pause until the next look: the interval with a tenth of jitter, so that the agents of a fleet do not look as one; less
// where something is to be confirmed or to end sooner. It ends with a whole second, as those of the other detectors do,
// for where nothing happens it is the waking of the process that costs, more than the look.
func (w *watch) pause() time.Duration {
	pause := time.Duration(float64(w.spec.Interval) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // jitter is no secret
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock.Now()
	pause = now.Add(pause).Truncate(time.Second).Sub(now)
	if next := w.tracker.Next(now); !next.IsZero() {
		pause = min(pause, next.Sub(now))
	}
	return max(pause, soonest)
}

// lookOnce looks, and does not return before the look has, so that there is never more than one. What a look that takes
// too long holds up is its own source alone; what it gives in the end is too old to be the truth, and lookOnce false.
func (w *watch) lookOnce(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	results := make(chan result, 1)
	begin := w.clock.Now()
	go func() { results <- w.guarded(limited, begin) }()
	timer := w.clock.NewTimer(lookTimeout + time.Second)
	defer timer.Stop()
	select {
	case r := <-results:
		w.take(ctx, r)
		return true
	case <-ctx.Done():
		return true
	case <-timer.C():
	}
	w.take(ctx, result{err: fmt.Errorf("no answer for %s", lookTimeout), took: lookTimeout})
	select {
	case <-results:
		return false
	case <-ctx.Done():
		return true
	}
}

// guarded makes an error of a panic.
func (w *watch) guarded(ctx context.Context, begin time.Time) (r result) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("detector panicked", "detector", w.spec.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r.err = fmt.Errorf("it panicked: %v", p)
		}
		r.took = w.clock.Since(begin)
	}()
	r.look, r.err = w.detector.Look(ctx)
	return r
}

// take makes findings of what a look gave.
func (w *watch) take(ctx context.Context, r result) {
	if ctx.Err() != nil {
		return // the look was cut short
	}
	source := v1alpha1.Source{Name: w.spec.Name, Categories: w.spec.Categories, State: v1alpha1.SourceActive}
	if errors.Is(r.err, detector.ErrNotPresent) {
		w.metrics.looked(w.spec.Name, r.took, true, 0, nil)
		w.board.Remove(w.spec.Name)
		w.done()
		return
	}
	w.mu.Lock()
	now := w.clock.Now()
	switch {
	case r.err != nil:
		source.State, source.Message = v1alpha1.SourceUnavailable, health.Shorten(r.err.Error(), health.MaxMessage)
	default:
		if err := w.tracker.Update(r.look, now); err != nil {
			r.look.Degraded = err.Error()
			w.log.Error("detector states what nobody knows", "detector", w.spec.Name, "error", err)
		}
		if resumer, ok := w.detector.(detector.Resumer); ok {
			w.cursor = resumer.Cursor()
		}
		if r.look.Degraded != "" {
			source.State, source.Message = v1alpha1.SourceDegraded, health.Shorten(r.look.Degraded, health.MaxMessage)
		}
	}
	findings := w.tracker.Findings(now)
	w.mu.Unlock()
	w.metrics.looked(w.spec.Name, r.took, r.err == nil, r.look.Lost, findings)
	w.board.Put(detector.Report{Source: source, Findings: findings})
	w.done()
}

func (w *watch) done() {
	if w.looked != nil {
		w.looked()
	}
}

// state of the findings and of the detector, as they belong together.
func (w *watch) state() SourceState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return SourceState{Entries: w.tracker.State(), Cursor: w.cursor}
}

// restore is for before run.
func (w *watch) restore(state SourceState, sameBoot bool) {
	if sameBoot {
		w.tracker.Restore(state.Entries, w.clock.Now())
	}
	w.cursor = state.Cursor
	if resumer, ok := w.detector.(detector.Resumer); ok && len(state.Cursor) > 0 {
		resumer.Resume(state.Cursor, sameBoot)
	}
}
