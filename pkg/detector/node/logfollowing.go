package node

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

var errStillReading = errors.New("the log has not been read to its end yet")

// start runs follow until ctx ends, and again some time after an error or a panic.
func (f *logFollower) start(ctx context.Context, follow func(context.Context) error) {
	go f.wakeUp(ctx)
	go func() {
		for ctx.Err() == nil {
			err := guarded(ctx, follow)
			if ctx.Err() != nil {
				return
			}
			f.fail(err)
			f.isReady()
			select {
			case <-ctx.Done():
			case <-f.clock.After(logRetryAfter):
			}
		}
	}()
}

// guarded makes an error of a panic: a line that nobody foresaw must not end the agent.
func guarded(ctx context.Context, follow func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("following the log, panic: %v\n%.2000s", p, debug.Stack())
		}
	}()
	return follow(ctx)
}

// wakeUp asks for a look when there is something new, and then not again for a while.
func (f *logFollower) wakeUp(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.sightings.dirty:
		}
		f.wake.raise()
		select {
		case <-ctx.Done():
			return
		case <-f.clock.After(logWakeEvery):
		}
	}
}

// read waits until what was in the log before has been read: a look before that would call a sick node healthy.
func (f *logFollower) read(ctx context.Context) error {
	select {
	case <-f.ready:
		return f.failure()
	default:
	}
	select {
	case <-f.ready:
		return f.failure()
	case <-f.clock.After(logReadWithin):
	case <-ctx.Done():
	}
	return errStillReading
}
