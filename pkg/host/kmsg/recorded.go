package kmsg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/logfile"
)

// filePollInterval is how often a recorded file is asked for more.
const filePollInterval = 200 * time.Millisecond

// maxQueued bounds the records that one poll of a file takes into memory.
const maxQueued = 256

// errRestarted says that the recorded file has begun anew, and its sequence with it.
var errRestarted = errors.New("the recorded kernel log begins anew")

// recorded follows a file of raw records, as `cat /dev/kmsg` makes it.
type recorded struct {
	follower *logfile.Follower
	clock    clock.Clock
	held     []byte   // a record whose dictionary may go on
	queue    [][]byte // whole records
	restarts int64
	live     bool
}

func newRecorded(path string) *recorded {
	// From the start, however long: it stands for the kernel's ring buffer.
	return &recorded{follower: logfile.New(path, logfile.Options{Backlog: 1 << 50})}
}

func (f *recorded) name() string { return "file" }
func (f *recorded) lost() int64  { return 0 }
func (f *recorded) close()       { f.follower.Close() }

func (f *recorded) next(ctx context.Context, idle func()) (Record, bool, error) {
	for len(f.queue) == 0 {
		if err := f.poll(); err != nil {
			return Record{}, false, err
		}
		if restarts := f.follower.Stats().Restarts; restarts != f.restarts {
			f.restarts = restarts
			return Record{}, false, errRestarted
		}
		if len(f.queue) > 0 {
			break
		}
		f.live = true
		idle()
		select {
		case <-ctx.Done():
			return Record{}, false, ctx.Err()
		case <-f.clock.After(filePollInterval):
		}
	}
	raw := f.queue[0]
	f.queue = f.queue[1:]
	record, err := Parse(raw)
	return record, f.live, err
}

// poll puts lines together: those that begin with a space belong to the record before.
func (f *recorded) poll() error {
	full := false
	err := f.follower.Poll(func(line []byte, _ bool) bool {
		if line[0] == ' ' {
			if len(f.held) > 0 && len(f.held)+len(line) < bufferSize {
				f.held = append(append(f.held, '\n'), line...)
			}
			return true
		}
		f.release()
		f.held = append([]byte(nil), line...)
		full = len(f.queue) >= maxQueued
		return !full
	})
	if !full {
		f.release() // a record and its dictionary are written in one piece
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the recorded kernel log, %w", err)
	}
	return nil
}

func (f *recorded) release() {
	if len(f.held) > 0 {
		f.queue = append(f.queue, f.held)
		f.held = nil
	}
}
