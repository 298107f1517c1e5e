package agent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// engine runs a set of detectors until it is stopped; another configuration is another engine, which goes on with the
// state of the one before.
type engine struct {
	watches  []*watch
	complete chan struct{} // closed once every detector has looked
	left     atomic.Int64
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// engineOptions are what an engine is made of.
type engineOptions struct {
	engineParts
	clock   clock.Clock
	board   *Board
	metrics *Metrics
	log     *slog.Logger
}

func newEngine(o engineOptions, state State, bootID string) *engine {
	e := &engine{complete: make(chan struct{})}
	e.left.Store(int64(len(o.detectors)))
	for _, d := range o.detectors {
		spec := d.Spec()
		w := &watch{
			detector: d, spec: spec, clock: o.clock, board: o.board, metrics: o.metrics, log: o.log,
			tracker: tracking.New(spec.Name, spec.Interval, o.catalogue),
			looked:  sync.OnceFunc(e.oneMore),
		}
		if before, ok := state.Sources[spec.Name]; ok {
			w.restore(before, state.BootID == bootID)
		}
		e.watches = append(e.watches, w)
	}
	if len(o.detectors) == 0 {
		close(e.complete)
	}
	return e
}

func (e *engine) oneMore() {
	if e.left.Add(-1) == 0 {
		close(e.complete)
	}
}

func (e *engine) start(ctx context.Context) {
	ctx, e.cancel = context.WithCancel(ctx)
	for _, w := range e.watches {
		e.running.Go(func() { w.run(ctx) })
	}
}

// stop ends all looks; one that hangs is left behind.
func (e *engine) stop() {
	e.cancel()
	e.running.Wait()
}

func (e *engine) state(bootID string) State {
	state := State{BootID: bootID, Sources: map[string]SourceState{}}
	for _, w := range e.watches {
		state.Sources[w.spec.Name] = w.state()
	}
	return state
}

func (e *engine) names() map[string]bool {
	names := map[string]bool{}
	for _, w := range e.watches {
		names[w.spec.Name] = true
	}
	return names
}
