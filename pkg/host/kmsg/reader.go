package kmsg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// Position is a place in the log of one boot.
type Position struct {
	// Sequence of the last record that was read, and whether there was one with a number.
	Sequence    uint64 `json:"sequence,omitempty"`
	HasSequence bool   `json:"hasSequence,omitempty"`
	// SinceBoot of that record, in nanoseconds, for sources that do not number records.
	SinceBoot time.Duration `json:"sinceBoot,omitempty"`
}

// Options of a Reader.
type Options struct {
	// AllFacilities lets through what programs have written into the log, for tests: nobody else than the kernel can
	// write records with its own facility, so all others prove nothing.
	AllFacilities bool
	// After is where to go on; the zero value is the oldest record that the kernel still has.
	After Position
}

// Reader gives the records of the kernel's log, one after the other. It is not safe
// for concurrent use, but for CaughtUp.
type Reader struct {
	source  source
	options Options
	clock   wallClock
	last    Position
	lost    int64
	broken  int64

	caughtUp chan struct{}
	idle     func()
}

// source is one way to the log.
type source interface {
	// next waits for a record, and calls idle before the wait; live says that it had not been there before.
	next(ctx context.Context, idle func()) (r Record, live bool, err error)
	// lost is how many records are known to be lost without a gap in the sequence that shows it.
	lost() int64
	close()
	name() string
}

// errAgain says that nothing was read this time, and that the next read goes on.
var errAgain = errors.New("no record this time")

// ErrNotKernelLog says that the path is neither the kernel's device nor a recorded file.
var ErrNotKernelLog = errors.New("neither the device of the kernel log nor a file of its records")

// Open opens dev/kmsg below the root of the host. Where it cannot be opened, the syslog system call is used, but only
// for the host that this process runs on: a root of recorded files has only what is recorded. A regular file with raw
// records (each begins a line, lines of its dictionary begin with a space) is followed like the device. Anything else
// is ErrNotKernelLog at once.
func Open(h host.Host, clk clock.Clock, o Options) (*Reader, error) {
	path := h.Path("dev/kmsg")
	s, err := openSource(path)
	if err != nil && !errors.Is(err, ErrNotKernelLog) && sameMachine(h) {
		fallback, fallbackErr := openSyslog(clk, unix.Klogctl, o.After)
		if fallbackErr != nil {
			return nil, errors.Join(err, fallbackErr)
		}
		s, err = fallback, nil
	}
	if err != nil {
		return nil, err
	}
	recordedBoot := time.Time{}
	if file, ok := s.(*recorded); ok {
		file.clock = clk
		if boot, err := h.BootTime(); err == nil {
			recordedBoot = boot
		}
	}
	return newReader(s, clk, recordedBoot, o), nil
}

func newReader(s source, clk clock.Clock, boot time.Time, o Options) *Reader {
	caughtUp := make(chan struct{})
	return &Reader{
		source: s, options: o, last: o.After, clock: wallClock{clock: clk, monotonic: monotonic, boot: boot},
		caughtUp: caughtUp, idle: sync.OnceFunc(func() { close(caughtUp) }),
	}
}

func openSource(path string) (source, error) {
	// Without O_NONBLOCK opening a pipe would wait for its writer, and a read could not be ended.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the kernel log, %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("opening the kernel log, %w", err)
	}
	if info.Mode().IsRegular() {
		_ = file.Close()
		return newRecorded(path), nil
	}
	if !isKernelLog(info) {
		_ = file.Close()
		return nil, fmt.Errorf("opening the kernel log, %s is %w", path, ErrNotKernelLog)
	}
	d, err := newDevice(file)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return d, nil
}

// isKernelLog tells the device from others that people put in its place, such as the console in containers.
func isKernelLog(info fs.FileInfo) bool {
	const major, minor = 1, 11 // Documentation/admin-guide/devices.txt
	if info.Mode()&fs.ModeCharDevice == 0 {
		return false
	}
	number, ok := deviceNumber(info)
	return ok && unix.Major(number) == major && unix.Minor(number) == minor
}

// sameMachine says whether the root of the host shows the machine that system calls speak of.
func sameMachine(h host.Host) bool {
	theirs, err := h.BootID()
	if err != nil {
		return false
	}
	ours, err := host.New("/").BootID()
	return err == nil && ours == theirs
}

// Source says where the records come from: "device", "syslog" or "file".
func (r *Reader) Source() string { return r.source.name() }

// Lost is how many records were overwritten before they could be read.
func (r *Reader) Lost() int64 { return r.lost + r.source.lost() }

// Broken is how many records could not be understood.
func (r *Reader) Broken() int64 { return r.broken }

// Position of the last record that was read, those of other facilities included.
func (r *Reader) Position() Position { return r.last }

// CaughtUp is closed once Next has read all that was there and waits for more.
func (r *Reader) CaughtUp() <-chan struct{} { return r.caughtUp }

// Close gives the file back, after the last Next.
func (r *Reader) Close() { r.source.close() }

// Next gives the next record of the kernel, and waits for it until ctx ends. Records that cannot be understood and
// those of other facilities are left out. An error other than the context's says that the log can no longer be read.
func (r *Reader) Next(ctx context.Context) (Record, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Record{}, err
		}
		record, live, err := r.source.next(ctx, r.idle)
		switch {
		case errors.Is(err, errAgain):
			continue
		case errors.Is(err, errRecord):
			r.broken++
			continue
		case errors.Is(err, errRestarted):
			r.last = Position{}
			continue
		case err != nil:
			return Record{}, err
		}
		if !r.advance(record) {
			continue
		}
		record.At = r.clock.at(record, live)
		if record.Facility == FacilityKernel || r.options.AllFacilities {
			return record, nil
		}
	}
}

// advance moves the position, counts a gap in the sequence, and says whether the record is new.
func (r *Reader) advance(record Record) bool {
	if !record.HasSequence {
		r.last = Position{SinceBoot: record.SinceBoot}
		return true
	}
	if r.last.HasSequence {
		if record.Sequence <= r.last.Sequence {
			return false
		}
		r.lost += int64(min(record.Sequence-r.last.Sequence-1, 1<<40))
	} else if r.last.SinceBoot > 0 && record.SinceBoot <= r.last.SinceBoot {
		return false
	}
	r.last = Position{Sequence: record.Sequence, HasSequence: true, SinceBoot: record.SinceBoot}
	return true
}

// wallClock says when, by the clock of the wall, a record was logged.
//
// Records carry the time since boot of the kernel's own clock. What is used of it is the age: the monotonic clock now,
// less the record's time. An age is not touched by steps of the wall's clock, so records are placed on the clock as it
// is set when they are read; btime of /proc/stat would be in whole seconds and of the same use. The kernel stamps records
// with a clock that NTP does not slew, which drifts from the monotonic clock by some seconds a week; each record that
// is read as it is logged, and so has no age, shows how far.
type wallClock struct {
	clock     clock.Clock
	monotonic func() time.Duration
	boot      time.Time // of recorded files; zero: the machine's own
	drift     time.Duration
}

// maxDrift bounds what is taken for drift; more is a wait of ours, such as a stopped process.
const maxDrift = 10 * time.Minute

func (c *wallClock) at(r Record, live bool) time.Time {
	now := c.clock.Now()
	if r.SinceBoot == 0 && !r.HasSequence {
		return now
	}
	if !c.boot.IsZero() {
		return c.boot.Add(r.SinceBoot)
	}
	age := c.monotonic() - r.SinceBoot
	if live && age.Abs() < maxDrift {
		c.drift = age
	}
	return now.Add(-max(age-c.drift, 0))
}

func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // the kernel always has this clock
	}
	return time.Duration(ts.Nano())
}
