// Package logfile follows log files that others write, rotate and truncate.
//
// Why not nxadm/tail, which does most of it: it reads a line whole however long it is, it knows a file only by name and
// so can neither go on after a restart nor see that a symbolic link points elsewhere, it misses a second truncation (its
// issue 62), and it needs several goroutines and a shared inotify instance for each process. Here the caller polls; a
// poll of a file at rest is two calls of stat.
package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Bounds of a Follower; the sizes are our own choice.
const (
	// MaxLine is how many bytes of a line are given; the rest is cut off and counted.
	MaxLine = 64 << 10
	// DefaultBacklog is how many bytes of the end of a file are read when it is first met.
	DefaultBacklog = 1 << 20
	// resumeBacklog is how many bytes are read at most of what was written while nobody followed.
	resumeBacklog = 16 << 20
	// bufferSize of one read.
	bufferSize = 32 << 10
)

// ErrNotRegular says that the path is a pipe, a device or a folder; reading those could hang.
var ErrNotRegular = errors.New("not a regular file")

// Options of a Follower. The zero value is usable.
type Options struct {
	// Backlog is how many bytes before the end are read of a file that is there at the first poll and that no cursor
	// knows; default DefaultBacklog, negative: none. Files that appear later are read from their start.
	Backlog int64
}

// Stats count what a Follower could not give, since it was made.
type Stats struct {
	// Cut lines, which were longer than MaxLine.
	Cut int64
	// Skipped bytes, which lay before the backlog.
	Skipped int64
	// Restarts from the start of a file because it was truncated or replaced.
	Restarts int64
}

// Follower gives the lines of the file at a path as they are written. It is not safe for concurrent use.
type Follower struct {
	path    string
	options Options
	stats   Stats

	current *file
	next    *file // what the path means now, while current may still be written to
	resume  *Cursor
	met     bool // a file has been at the path before
	buffer  []byte
}

// New gives a Follower of the file at path, which need not exist yet. Close it after use.
func New(path string, o Options) *Follower {
	if o.Backlog == 0 {
		o.Backlog = DefaultBacklog
	}
	return &Follower{path: path, options: o}
}

// Resume makes the first poll go on at a cursor. Call it before that.
func (f *Follower) Resume(c Cursor) {
	if c != (Cursor{}) {
		f.resume = &c
	}
}

// Stats so far.
func (f *Follower) Stats() Stats { return f.stats }

// Open says whether a file is being followed.
func (f *Follower) Open() bool { return f.current != nil }

// Close gives the files back, at the end.
func (f *Follower) Close() {
	f.current.close()
	f.next.close()
	f.current, f.next, f.buffer = nil, nil, nil
}

// Poll gives each whole line that has been written since the last poll to give, without its end of line; the bytes are
// valid only during the call. backlog says that the line was there before the follower: when it was written is not
// known. An error says that the path cannot be read; fs.ErrNotExist that there is no file, which may come later. give
// returning false ends the poll; the next goes on with the line after.
func (f *Follower) Poll(give func(line []byte, backlog bool) bool) error {
	if f.current == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	for {
		grew, err := f.drain(f.current, give)
		if err != nil || f.current.stopped {
			f.current.stopped = false
			return err
		}
		if f.next == nil {
			return f.lookForNext()
		}
		// The writer may go on in the old file for a moment; it has left it when a poll finds nothing more.
		if grew && f.current.lingered < maxLinger {
			f.current.lingered++
			return nil
		}
		f.current.flush(give)
		f.current.close()
		stopped := f.current.stopped
		f.current, f.next = f.next, nil
		f.stats.Restarts++
		if stopped {
			return nil
		}
	}
}

// maxLinger is how many polls an old file is kept that is still written to.
const maxLinger = 10

// open finds the file at the first poll, and after a time without one.
func (f *Follower) open() error {
	opened, err := openFile(f.path)
	if err != nil {
		f.met = f.met || errors.Is(err, fs.ErrNotExist)
		return err
	}
	f.current = opened
	switch {
	case f.resume != nil:
		f.goOn(*f.resume)
	case !f.met:
		f.skipTo(opened, opened.size-max(f.options.Backlog, 0))
		opened.backlogEnd = opened.size
	}
	f.met, f.resume = true, nil
	return nil
}

// goOn places the follower where the cursor was: in the same file, in the one that it was renamed to, or at the start.
func (f *Follower) goOn(c Cursor) {
	if f.current.is(c) {
		f.current.startAt(c.Offset)
		f.skipTo(f.current, f.current.size-resumeBacklog)
		return
	}
	if old := findRotated(f.path, c); old != nil {
		old.startAt(c.Offset)
		f.skipTo(old, old.size-resumeBacklog)
		f.current, f.next = old, f.current
		old.lingered = maxLinger
	} else {
		f.stats.Restarts++
	}
	f.skipTo(f.latest(), f.latest().size-resumeBacklog)
}

func (f *Follower) latest() *file {
	if f.next != nil {
		return f.next
	}
	return f.current
}

// skipTo leaves out what lies before the offset, and the rest of the line there.
func (f *Follower) skipTo(of *file, offset int64) {
	if offset <= of.offset {
		return
	}
	f.stats.Skipped += offset - of.offset
	of.startAt(offset)
}

// drain gives what has been added to a file.
func (f *Follower) drain(of *file, give func([]byte, bool) bool) (grew bool, err error) {
	restarted, changed, err := of.refresh()
	if err != nil {
		return false, fmt.Errorf("looking at log file, %w", err)
	}
	if restarted {
		f.stats.Restarts++
	}
	if !changed {
		return false, nil
	}
	if f.buffer == nil {
		f.buffer = make([]byte, bufferSize)
	}
	for {
		n, err := of.handle.ReadAt(f.buffer, of.offset)
		if n > 0 {
			grew = true
			f.stats.Cut += of.lines(f.buffer[:n], give)
		}
		if of.stopped || errors.Is(err, io.EOF) {
			return grew, nil
		}
		if err != nil {
			return grew, fmt.Errorf("reading log file, %w", err)
		}
	}
}

// lookForNext sees whether the path means another file by now. Where it means none, the old one is kept for a while.
func (f *Follower) lookForNext() error {
	info, err := os.Stat(f.path)
	if err == nil && os.SameFile(info, f.current.info) {
		f.current.lingered = 0
		return nil
	}
	if err == nil {
		f.next, err = openFile(f.path)
	}
	if err == nil {
		f.current.lingered = 0
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for log file, %w", err)
	}
	if f.current.lingered++; f.current.lingered > 1 {
		f.Close()
		return fmt.Errorf("looking for log file, %w", err)
	}
	return nil
}

// file is one open file.
type file struct {
	handle *os.File
	info   fs.FileInfo
	size   int64
	offset int64 // of the first byte that has not been taken
	head   head

	backlogEnd int64 // bytes before it were there before the follower
	partial    []byte
	discard    bool // until the end of the line
	overlong   bool // the line has been given, cut
	lingered   int
	stopped    bool
	seenSize   int64
	seenTime   int64
}

func openFile(path string) (*file, error) {
	// Without O_NONBLOCK opening a pipe would wait for its writer.
	handle, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening log file, %w", err)
	}
	info, err := handle.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	of := &file{handle: handle, info: info, seenSize: -1}
	if err == nil {
		of.size = info.Size()
		err = of.head.read(handle)
	}
	if err == nil && of.head.compressed() {
		err = errCompressed
	}
	if err != nil {
		_ = handle.Close()
		return nil, fmt.Errorf("opening log file %s, %w", path, err)
	}
	return of, nil
}

var errCompressed = errors.New("compressed")

// startAt goes to the first line that begins at offset or later.
func (of *file) startAt(offset int64) {
	if offset > 0 {
		of.offset, of.discard = offset-1, true // the byte before ends a line where the offset is the start of one
	}
}

func (of *file) close() {
	if of != nil {
		_ = of.handle.Close() // it was only read
	}
}

// refresh sees whether the file has changed, and begins anew where it has been truncated: it has become shorter than
// what was read of it, or begins in another way.
func (of *file) refresh() (restarted, changed bool, err error) {
	info, err := of.handle.Stat()
	if err != nil {
		return false, false, err
	}
	of.size = info.Size()
	if of.size == of.seenSize && info.ModTime().UnixNano() == of.seenTime {
		return false, of.offset < of.size, nil
	}
	of.seenSize, of.seenTime = of.size, info.ModTime().UnixNano()
	same, err := of.head.still(of.handle)
	if err != nil {
		return false, false, err
	}
	if of.size < of.offset || !same {
		of.offset, of.backlogEnd, of.partial, of.discard, of.overlong = 0, 0, of.partial[:0], false, false
		restarted = true
	}
	if err := of.head.read(of.handle); err != nil {
		return restarted, false, err
	}
	return restarted, of.offset < of.size, nil
}

// lines takes a piece of the file and gives the lines that it ends.
func (of *file) lines(piece []byte, give func([]byte, bool) bool) (cut int64) {
	for len(piece) > 0 && !of.stopped {
		end := bytes.IndexByte(piece, '\n')
		if end < 0 {
			cut += of.keep(piece, give)
			of.offset += int64(len(piece))
			return cut
		}
		part := piece[:end]
		piece = piece[end+1:]
		of.offset += int64(end + 1)
		switch {
		case of.discard || of.overlong:
			of.discard, of.overlong = false, false
		case len(of.partial) == 0 && len(part) <= MaxLine:
			of.give(part, give)
		default:
			cut += of.keep(part, give)
			if !of.overlong {
				of.give(of.partial, give)
			}
			of.partial, of.overlong = of.partial[:0], false
		}
	}
	return cut
}

// keep holds the start of a line until its end comes; one that grows too long is given as far as it goes.
func (of *file) keep(part []byte, give func([]byte, bool) bool) (cut int64) {
	if of.discard || of.overlong {
		return 0
	}
	room := MaxLine - len(of.partial)
	if len(part) <= room {
		of.partial = append(of.partial, part...)
		return 0
	}
	of.partial = append(of.partial, part[:room]...)
	of.give(of.partial, give)
	of.partial, of.overlong = of.partial[:0], true
	return 1
}

// flush gives a last line that has no end.
func (of *file) flush(give func([]byte, bool) bool) {
	if len(of.partial) > 0 && !of.discard && !of.overlong {
		of.give(of.partial, give)
	}
	of.partial = nil
}

func (of *file) give(line []byte, give func([]byte, bool) bool) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	// A writer that does not append leaves a hole after a truncation.
	line = bytes.TrimLeft(line, "\x00")
	if len(line) > 0 && !give(line, of.offset <= of.backlogEnd) {
		of.stopped = true
	}
}
