package kmsg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize holds the longest record of any kernel: 8 KiB until 6.4, 2 KiB since; a read into less is EINVAL.
const bufferSize = 16 << 10

// maxBadReads is how many reads in a row may fail before the device counts as broken.
const maxBadReads = 100

// device reads records from /dev/kmsg, one with each read(2).
type device struct {
	file   *os.File
	conn   syscall.RawConn
	read   func(fd int, buffer []byte) (int, error)
	buffer []byte
	bad    int
}

func newDevice(file *os.File) (*device, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("opening the kernel log, %w", err)
	}
	// Where the runtime cannot poll the file, a wait could not be ended.
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("opening the kernel log for polling, %w", err)
	}
	return &device{file: file, conn: conn, read: unix.Read, buffer: make([]byte, bufferSize)}, nil
}

func (d *device) name() string { return "device" }
func (d *device) lost() int64  { return 0 }
func (d *device) close()       { _ = d.file.Close() }

func (d *device) next(ctx context.Context, idle func()) (Record, bool, error) {
	n, live, err := d.readOne(ctx, idle)
	switch {
	case err == nil:
		d.bad = 0
		record, err := Parse(d.buffer[:n])
		return record, live, err
	case ctx.Err() != nil:
		return Record{}, false, ctx.Err()
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINVAL):
		// EPIPE: overwritten, and the next read gives the oldest that is left. EINVAL: longer than the buffer, and
		// skipped by the kernel. Both show as a gap in the sequence.
		if d.bad++; d.bad < maxBadReads {
			return Record{}, false, errAgain
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Left behind by a context that ended just as a record came.
		if err := d.file.SetReadDeadline(time.Time{}); err == nil {
			return Record{}, false, errAgain
		}
	}
	return Record{}, false, fmt.Errorf("reading the kernel log, %w", err)
}

// readOne reads one record, and waits for it in the runtime's poller, which costs no thread.
func (d *device) readOne(ctx context.Context, idle func()) (n int, waited bool, err error) {
	stop := func() bool { return true }
	pollErr := d.conn.Read(func(fd uintptr) bool {
		for {
			n, err = d.read(int(fd), d.buffer)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if !errors.Is(err, unix.EAGAIN) {
			return true
		}
		if !waited {
			waited = true
			idle()
			stop = context.AfterFunc(ctx, func() { _ = d.file.SetReadDeadline(time.Unix(1, 0)) })
		}
		return false
	})
	if !stop() {
		_ = d.file.SetReadDeadline(time.Time{}) // ctx ended; another may come
	}
	if pollErr != nil {
		return 0, waited, pollErr
	}
	if err == nil && n == 0 {
		return 0, waited, unix.ENODEV // the device has no end
	}
	return n, waited, err
}

func deviceNumber(info fs.FileInfo) (uint64, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(stat.Rdev), true
}
