package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const (
	// HeartbeatInterval is the longest time between two writes; after three of them without one the agent counts as
	// silent. 5,000 agents cost the API server some 17 writes a second by it.
	HeartbeatInterval = 5 * time.Minute
	// recountEvery is how soon a changed count or time of a known finding is written; a new finding is at once.
	recountEvery = time.Minute
	// firstWriteWithin is how long the first write may wait for the slowest detector.
	firstWriteWithin = 10 * time.Second
)

// truthStore is where the truth is written.
type truthStore interface {
	NodeUID(ctx context.Context, name string) (types.UID, error)
	Apply(ctx context.Context, health *v1alpha1.NodeHealth) error
}

// Writer keeps the NodeHealth of the node at what the board says: changes at once, a heartbeat where there are none,
// and after an outage the newest truth.
type Writer struct {
	node    string
	bootID  string
	clock   clock.Clock
	api     truthStore
	board   *Board
	metrics *Metrics
	log     *slog.Logger
	// complete is closed once every detector has looked; the first write waits for it.
	complete <-chan struct{}
	pace     *rate.Limiter
	// heartbeat is the longest time between two writes.
	heartbeat time.Duration

	uid      types.UID
	written  *v1alpha1.NodeHealth
	wroteAt  time.Time
	interval time.Duration

	mu          sync.Mutex // guards what follows
	failedSince time.Time
	failure     string
}

// NewWriter gives a writer for the Node of that name. complete is closed once every detector has looked.
func NewWriter(node, bootID string, clk clock.Clock, api truthStore, board *Board, complete <-chan struct{}, metrics *Metrics, log *slog.Logger) *Writer {
	return &Writer{
		node: node, bootID: bootID, clock: clk, api: api, board: board, complete: complete, metrics: metrics, log: log,
		heartbeat: HeartbeatInterval,
		// Five changes at once, then one in two seconds: what flickers must not be felt by the API server.
		pace: rate.NewLimiter(rate.Every(2*time.Second), 5),
	}
}

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	if !w.waitForFirstLooks(ctx) {
		return
	}
	for ctx.Err() == nil {
		if err := w.pace.Wait(ctx); err != nil {
			return
		}
		w.writeUntilDone(ctx)
		w.waitForChange(ctx)
	}
}

func (w *Writer) waitForFirstLooks(ctx context.Context) bool {
	timer := w.clock.NewTimer(firstWriteWithin)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.complete:
	case <-timer.C():
	}
	return true
}

// waitForChange returns once something has to be written.
func (w *Writer) waitForChange(ctx context.Context) {
	heartbeat := w.clock.NewTimer(w.interval - w.clock.Since(w.wroteAt))
	defer heartbeat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-heartbeat.C():
			if w.clock.Since(w.wroteAt) >= w.interval {
				w.uid = "" // the Node may have been made anew
			}
			return
		case <-w.board.Changed():
			now := w.state()
			switch {
			case differs(w.written, now):
				return
			case recounted(w.written.Findings, now.Findings):
				heartbeat.Reset(min(recountEvery, w.interval) - w.clock.Since(w.wroteAt))
			}
		}
	}
}

// writeUntilDone writes the newest truth, again and again with growing pauses until the API server has it.
func (w *Writer) writeUntilDone(ctx context.Context) {
	backoff := wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 30 * time.Second}
	for ctx.Err() == nil {
		err := w.write(ctx)
		w.note(err)
		if err == nil {
			return
		}
		pause := backoff.Step()
		w.log.Warn("writing NodeHealth", "error", err, "again", pause.Round(time.Millisecond).String())
		timer := w.clock.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
	}
}

func (w *Writer) write(ctx context.Context) error {
	if w.uid == "" {
		uid, err := w.api.NodeUID(ctx, w.node)
		if err != nil {
			if apierrors.IsNotFound(err) {
				return fmt.Errorf("the Node %q has not registered: give its name with --node-name if it has another", w.node)
			}
			return err //nolint:wrapcheck // says what it did
		}
		w.uid = uid
	}
	now := w.state()
	w.interval = time.Duration(float64(w.heartbeat) * (0.8 + 0.2*rand.Float64())) //nolint:gosec // jitter is no secret
	sent := now.DeepCopy()
	sent.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: w.node, UID: w.uid}}
	for i := range sent.Sources {
		sent.Sources[i].LastHeartbeat = new(metav1.NewTime(w.clock.Now().UTC().Truncate(time.Second)))
		sent.Sources[i].HeartbeatInterval = &metav1.Duration{Duration: w.heartbeat}
	}
	if err := w.api.Apply(ctx, sent); err != nil {
		return err //nolint:wrapcheck // says what it did
	}
	w.written, w.wroteAt = now, w.clock.Now()
	return nil
}

// state is the NodeHealth as it should be, without what each write adds.
func (w *Writer) state() *v1alpha1.NodeHealth {
	sources, findings := w.board.Read()
	return &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: w.node}, BootID: w.bootID, Sources: sources, Findings: findings}
}

// differs says whether more has changed than how often and when a finding was last seen.
func differs(written, now *v1alpha1.NodeHealth) bool {
	return !equality.Semantic.DeepEqual(written.Sources, now.Sources) ||
		!equality.Semantic.DeepEqual(lasting(written.Findings), lasting(now.Findings))
}

// recounted says whether a finding has been seen again, of the same findings in the same order.
func recounted(written, now []v1alpha1.Finding) bool {
	for i := range now {
		if now[i].Count != written[i].Count || now[i].Message != written[i].Message {
			return true
		}
	}
	return false
}

func lasting(findings []v1alpha1.Finding) []v1alpha1.Finding {
	out := make([]v1alpha1.Finding, 0, len(findings))
	for _, f := range findings {
		f.Count, f.LastObserved, f.Evidence, f.Message = 0, nil, nil, ""
		out = append(out, f)
	}
	return out
}

// note remembers since when writing does not succeed.
func (w *Writer) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.metrics.wrote(w.clock.Now(), err)
	if err == nil {
		w.failedSince, w.failure = time.Time{}, ""
		return
	}
	if w.failedSince.IsZero() {
		w.failedSince = w.clock.Now()
	}
	w.failure = err.Error()
}

// Failing says since when the API server has not taken what was written, and its last error; zero where it does.
func (w *Writer) Failing() (since time.Time, failure string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failedSince, w.failure
}
