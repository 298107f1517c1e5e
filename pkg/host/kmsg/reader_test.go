package kmsg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// enough time for anything that must come.
const enough = 20 * time.Second

// log writes into the kernel's log; each opening of the device has a rate limit of its own.
func log(t *testing.T, text string) {
	t.Helper()
	if err := writeLog(text); err != nil {
		t.Skipf("needs root and a kernel log that can be written: %v", err)
	}
}

func writeLog(text string) error {
	device, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	// Without the end of the line the kernel holds the record back, since more could follow.
	_, err = device.WriteString(text + "\n")
	return errors.Join(err, device.Close())
}

// logLater writes while the test goes on to wait.
func logLater(t *testing.T, text string) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- writeLog(text) }()
	t.Cleanup(func() { require.NoError(t, <-done) })
}

func marker(t *testing.T) string {
	return fmt.Sprintf("%s-%d-%d", t.Name(), os.Getpid(), time.Now().UnixNano())
}

func open(t *testing.T, h host.Host, o Options) *Reader {
	t.Helper()
	r, err := Open(h, clock.RealClock{}, o)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

// find reads until a record holds the text.
func find(t *testing.T, r *Reader, text string) Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	for {
		record, err := r.Next(ctx)
		require.NoError(t, err, "looking for %q", text)
		if strings.Contains(record.Text, text) {
			return record
		}
	}
}

// rest reads until the reader has caught up.
func rest(t *testing.T, r *Reader) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	go func() {
		select {
		case <-r.CaughtUp():
			cancel()
		case <-ctx.Done():
		}
	}()
	var records []Record
	for {
		record, err := r.Next(ctx)
		if errors.Is(err, context.Canceled) {
			return records
		}
		require.NoError(t, err)
		records = append(records, record)
	}
}

func TestTheRealDevice(t *testing.T) {
	mark := marker(t)
	log(t, "<4>"+mark+" before")
	r := open(t, host.New("/"), Options{AllFacilities: true})
	require.Equal(t, "device", r.Source())
	before := find(t, r, mark)
	require.Equal(t, mark+" before", before.Text)
	require.Equal(t, 1, before.Facility, "the kernel does not let programs write as itself")
	require.Equal(t, 4, before.Level)

	written := time.Now()
	logLater(t, "<4>"+mark+" caf\u00e9\ttab "+strings.Repeat("x", 500))
	live := find(t, r, mark)
	require.Contains(t, live.Text, "café tab xxx")
	require.Greater(t, live.Sequence, before.Sequence)
	require.WithinDuration(t, written, live.At, 5*time.Second)
	require.Zero(t, r.Broken())

	again := open(t, host.New("/"), Options{AllFacilities: true, After: Position{Sequence: before.Sequence, HasSequence: true}})
	require.Equal(t, live.Sequence, find(t, again, mark).Sequence, "goes on after the position")
	require.Zero(t, again.Lost())
}

func TestWhatProgramsWriteIsNotTheKernels(t *testing.T) {
	mark := marker(t)
	log(t, "<0>NVRM: Xid (PCI:0000:00:1e): 79, GPU has fallen off the bus. "+mark)
	for _, record := range rest(t, open(t, host.New("/"), Options{})) {
		require.NotContains(t, record.Text, mark)
		require.Equal(t, FacilityKernel, record.Facility)
	}
}

func TestTheRingMayRunOver(t *testing.T) {
	if testing.Short() {
		t.Skip("writes megabytes into the kernel log; run without -short")
	}
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil || size > 4<<20 {
		t.Skipf("needs root and a kernel log of at most 4 MiB: %d, %v", size, err)
	}
	mark := marker(t)
	log(t, mark+" first")
	r := open(t, host.New("/"), Options{AllFacilities: true})
	find(t, r, mark+" first")
	long := strings.Repeat("y", 900)
	// The kernel's ring has as much room again for what it knows of each record.
	for range size/900 + 2000 {
		log(t, long)
	}
	log(t, mark+" last")
	find(t, r, mark+" last")
	require.Positive(t, r.Lost(), "what was overwritten is counted")
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	log(t, marker(t))
	r := open(t, host.New("/"), Options{AllFacilities: true})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-r.CaughtUp()
		cancel()
	}()
	for {
		if _, err := r.Next(ctx); err != nil {
			require.ErrorIs(t, err, context.Canceled)
			break
		}
	}
	mark := marker(t)
	logLater(t, mark)
	find(t, r, mark)
}

// scripted gives what a device would: a record, or an error, in each read.
func scripted(t *testing.T, reads ...any) *Reader {
	t.Helper()
	var ends [2]int
	require.NoError(t, unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC))
	t.Cleanup(func() { _ = unix.Close(ends[1]) })
	d, err := newDevice(os.NewFile(uintptr(ends[0]), "scripted"))
	require.NoError(t, err)
	d.read = func(_ int, buffer []byte) (int, error) {
		if len(reads) == 0 {
			return 0, unix.EAGAIN
		}
		now := reads[0]
		reads = reads[1:]
		if err, ok := now.(error); ok {
			return 0, err
		}
		return copy(buffer, now.(string)), nil
	}
	r := newReader(d, clock.RealClock{}, time.Time{}, Options{})
	t.Cleanup(r.Close)
	return r
}

func TestADeviceThatFailsNowAndThen(t *testing.T) {
	r := scripted(t, "6,1,1,-;one", unix.EPIPE, "6,5,1,-;five", unix.EINVAL, "6,7,1,-;seven", unix.EINTR, "rubbish", "14,8,1,-;eight, of a program", "6,9,1,-;nine")
	var texts []string
	for _, record := range rest(t, r) {
		texts = append(texts, record.Text)
	}
	require.Equal(t, []string{"one", "five", "seven", "nine"}, texts)
	require.EqualValues(t, 3+1, r.Lost())
	require.EqualValues(t, 1, r.Broken())
	require.Equal(t, Position{Sequence: 9, HasSequence: true, SinceBoot: time.Microsecond}, r.Position())
}

func TestADeviceThatIsBrokenIsAnError(t *testing.T) {
	_, err := scripted(t, unix.EIO).Next(t.Context())
	require.ErrorIs(t, err, unix.EIO)
	_, err = scripted(t, "").Next(t.Context())
	require.ErrorIs(t, err, unix.ENODEV, "the device never ends")
	forever := make([]any, 1000)
	for i := range forever {
		forever[i] = unix.EINVAL
	}
	_, err = scripted(t, forever...).Next(t.Context())
	require.ErrorIs(t, err, unix.EINVAL)
}

func TestWhatIsNotTheKernelLogIsRefusedAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		put  func(path string) error
		want error
	}{
		"nothing":        {put: func(string) error { return nil }, want: os.ErrNotExist},
		"a pipe":         {put: func(path string) error { return unix.Mkfifo(path, 0o600) }, want: ErrNotKernelLog},
		"a folder":       {put: func(path string) error { return os.Mkdir(path, 0o700) }, want: ErrNotKernelLog},
		"another device": {put: func(path string) error { return os.Symlink("/dev/null", path) }, want: ErrNotKernelLog},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(root, "dev"), 0o700))
			require.NoError(t, tc.put(filepath.Join(root, "dev/kmsg")))
			_, err := Open(host.New(root), clock.RealClock{}, Options{})
			require.ErrorIs(t, err, tc.want)
		})
	}
}

// recordedHost has a file in the place of the device.
func recordedHost(t *testing.T, records string) (h host.Host, path string) {
	t.Helper()
	h = host.New(t.TempDir())
	for _, folder := range []string{"dev", "proc"} {
		require.NoError(t, os.Mkdir(h.Path(folder), 0o700))
	}
	require.NoError(t, os.WriteFile(h.Path("proc/stat"), []byte("cpu  1 2 3\nbtime 1700000000\n"), 0o600))
	require.NoError(t, os.WriteFile(h.Path("dev/kmsg"), []byte(records), 0o600))
	return h, h.Path("dev/kmsg")
}

func TestARecordedFileIsReadAndFollowed(t *testing.T) {
	h, path := recordedHost(t, "6,1,1000000,-;one\n SUBSYSTEM=net\n14,2,1000000,-;two, of a program\n6,5,2000000,-;five\n")
	r := open(t, h, Options{})
	one := find(t, r, "one")
	require.Equal(t, "file", r.Source())
	require.Equal(t, []Field{{Key: "SUBSYSTEM", Value: "net"}}, one.Fields)
	require.Equal(t, time.Unix(1700000001, 0), one.At)
	find(t, r, "five")
	require.EqualValues(t, 2, r.Lost())
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	_, err = file.WriteString("6,6,3000000,-;six\n")
	require.NoError(t, err)
	find(t, r, "six")
	require.NoError(t, os.WriteFile(path, []byte("6,1,1,-;one anew\n"), 0o600))
	find(t, r, "one anew")
}

func TestTheSystemCallInTheDevicesPlace(t *testing.T) {
	first := marker(t)
	log(t, "<4>"+first)
	s, err := openSyslog(clock.RealClock{}, unix.Klogctl, Position{})
	if err != nil {
		t.Skipf("needs the right to call syslog(2): %v", err)
	}
	r := newReader(s, clock.RealClock{}, time.Time{}, Options{AllFacilities: true})
	require.Equal(t, 4, find(t, r, first).Level)
	second := marker(t)
	log(t, "<3>"+second)
	record := find(t, r, second)
	require.Equal(t, 1, record.Facility)
	require.WithinDuration(t, time.Now(), record.At, enough)
	for ctx := contextOf(t, 3*time.Second); ; {
		record, err := r.Next(ctx)
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			break
		}
		require.NotContains(t, record.Text, t.Name(), "nothing twice")
	}
}

func contextOf(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestCopiesOfTheBufferArePutTogether(t *testing.T) {
	for name, tc := range map[string]struct {
		first, second string
		want          []string
		lost          int64
	}{
		"the same again":          {first: "<6>[1.000001] a\n<6>[1.000002] b\n", second: "<6>[1.000001] a\n<6>[1.000002] b\n"},
		"more at the end":         {first: "<6>[1.000001] a\n", second: "<6>[1.000001] a\n<6>[1.000002] b\n", want: []string{"b"}},
		"less at the start":       {first: "<6>[1.000001] a\n<6>[1.000002] b\n", second: "<6>[1.000002] b\n<6>[1.000003] c\n", want: []string{"c"}},
		"a line that is repeated": {first: "<6>a\n<6>a\n", second: "<6>a\n<6>a\n<6>b\n<6>a\n", want: []string{"b", "a"}},
		"nothing left of it":      {first: "<6>[1.000001] a\n", second: "<6>[9.000001] x\n<6>[9.000002] y\n", want: []string{"x", "y"}, lost: 1},
		"a log that was cleared":  {first: "<6>[1.000001] a\n", second: ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := tc.first
			s, err := openSyslog(clocktesting.NewFakeClock(time.Now()), func(action int, buffer []byte) (int, error) {
				if action == unix.SYSLOG_ACTION_READ_ALL {
					return copy(buffer, text), nil
				}
				return len(text), nil
			}, Position{})
			require.NoError(t, err)
			s.queue = nil
			text = tc.second
			s.forced = 0
			require.NoError(t, s.poll())
			var got []string
			for _, record := range s.queue {
				got = append(got, record.Text)
			}
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.lost, s.lost())
		})
	}
}

func TestAStepOfTheClockMovesNoRecord(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clk := clocktesting.NewFakeClock(now)
	since := 100 * time.Second
	w := wallClock{clock: clk, monotonic: func() time.Duration { return since }}
	record := Record{HasSequence: true, SinceBoot: 40 * time.Second}
	require.Equal(t, now.Add(-time.Minute), w.at(record, false))
	clk.SetTime(now.Add(time.Hour))
	require.Equal(t, now.Add(time.Hour-time.Minute), w.at(record, false), "a minute old on the clock as it is now")
	since += time.Second
	require.Equal(t, now.Add(time.Hour), w.at(Record{HasSequence: true, SinceBoot: 98 * time.Second}, true), "the clocks are three seconds apart")
	require.Equal(t, now.Add(time.Hour-time.Second), w.at(Record{HasSequence: true, SinceBoot: 97 * time.Second}, false))
}

func TestWithoutTheDeviceTheSystemCallIsUsedForThisMachineAlone(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	if _, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 1)); err != nil {
		t.Skipf("needs the right to call syslog(2): %v", err)
	}
	for name, tc := range map[string]struct {
		boot string
		here bool
	}{
		"a root that shows this machine": {boot: string(boot), here: true},
		"a root of recorded files":       {boot: "01234567-89ab-cdef-0123-456789abcdef"},
	} {
		t.Run(name, func(t *testing.T) {
			h := host.New(t.TempDir())
			require.NoError(t, os.MkdirAll(h.Path("proc/sys/kernel/random"), 0o700))
			require.NoError(t, os.WriteFile(h.Path("proc/sys/kernel/random/boot_id"), []byte(tc.boot), 0o600))
			r, err := Open(h, clock.RealClock{}, Options{})
			if !tc.here {
				require.ErrorIs(t, err, os.ErrNotExist)
				return
			}
			require.NoError(t, err)
			defer r.Close()
			require.Equal(t, "syslog", r.Source())
		})
	}
}
