package kmsg

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
)

const (
	// pollInterval is how often the kernel is asked for more.
	pollInterval = time.Second
	// maxSyslog bounds what is read of the kernel's buffer; the newest is given where it holds more.
	maxSyslog = 1 << 20
	// tailLength is how many of the last lines are remembered to find the place in the next copy of the buffer.
	tailLength = 32
)

// klogctl is syslog(2).
type klogctl func(action int, buffer []byte) (int, error)

// syslog polls the buffer of the kernel with a system call, which gives a copy of all of it each time.
type syslog struct {
	call   klogctl
	clock  clock.Clock
	buffer []byte
	queue  []Record
	tail   []uint64 // hashes of the last lines seen
	after  time.Duration
	unread int
	forced int // polls until one without regard to unread
	live   bool

	overrun int64 // how often the buffer had nothing left of the copy before: at least one record each
}

// forceEvery is how many polls may pass in which the kernel says that nothing has changed: its count of unread bytes can
// stand still in a full buffer.
const forceEvery = 10

func openSyslog(clk clock.Clock, call klogctl, after Position) (*syslog, error) {
	size, err := call(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for the size of the kernel log, %w", err)
	}
	// Each line takes more room here than in the kernel: the priority and the time are text.
	s := &syslog{call: call, clock: clk, buffer: make([]byte, min(max(size, 4096)*2, maxSyslog)), after: after.SinceBoot, unread: -1}
	if err := s.poll(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *syslog) name() string { return "syslog" }
func (s *syslog) lost() int64  { return s.overrun }
func (s *syslog) close()       {}

func (s *syslog) next(ctx context.Context, idle func()) (Record, bool, error) {
	for len(s.queue) == 0 {
		s.live = true
		idle()
		select {
		case <-ctx.Done():
			return Record{}, false, ctx.Err()
		case <-s.clock.After(pollInterval):
		}
		if err := s.poll(); err != nil {
			return Record{}, false, err
		}
	}
	record := s.queue[0]
	s.queue = s.queue[1:]
	return record, s.live, nil
}

func (s *syslog) poll() error {
	if !s.changed() {
		return nil
	}
	n, err := s.call(unix.SYSLOG_ACTION_READ_ALL, s.buffer)
	if err != nil {
		return fmt.Errorf("reading the kernel log, %w", err)
	}
	s.take(s.buffer[:min(max(n, 0), len(s.buffer))])
	return nil
}

// changed asks for a number before the whole buffer is copied.
func (s *syslog) changed() bool {
	unread, err := s.call(unix.SYSLOG_ACTION_SIZE_UNREAD, nil)
	if err == nil && unread == s.unread && s.forced > 0 {
		s.forced--
		return false
	}
	s.unread, s.forced = unread, forceEvery
	return true
}

// take queues the lines that the copy before did not have.
func (s *syslog) take(text []byte) {
	text = bytes.TrimRight(text, "\n\x00")
	if len(text) == 0 {
		return
	}
	lines := bytes.Split(text, []byte{'\n'})
	hashes := make([]uint64, len(lines))
	for i, line := range lines {
		h := fnv.New64a()
		_, _ = h.Write(line) // never fails
		hashes[i] = h.Sum64()
	}
	from, found := newFrom(hashes, s.tail)
	if !found {
		s.overrun++
	}
	for _, line := range lines[from:] {
		record, err := parseSyslogLine(line)
		if err != nil || (record.SinceBoot > 0 && record.SinceBoot <= s.after) {
			continue
		}
		s.queue = append(s.queue, record)
	}
	// What a cursor knew is past; from here on the tail tells, since processors' clocks differ by a little.
	s.after = 0
	s.tail = append(s.tail, hashes[from:]...)
	s.tail = append([]uint64(nil), s.tail[max(0, len(s.tail)-tailLength):]...)
}

// newFrom finds where lines go on after tail: behind the last place where as much of the tail as fits stands. Where it
// stands nowhere, all are new.
func newFrom(lines, tail []uint64) (from int, found bool) {
	if len(tail) == 0 {
		return 0, true
	}
	for end := len(lines); end > 0; end-- {
		length := min(end, len(tail))
		if equal(lines[end-length:end], tail[len(tail)-length:]) {
			return end, true
		}
	}
	return 0, false
}

func equal(a, b []uint64) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
