package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// Folders of the journal below the root of the host: kept over boots, and not.
var folders = []string{"var/log/journal", "run/log/journal"}

// Bounds of a Reader.
const (
	maxMachines = 8   // folders of machine IDs, of which images may bring old ones
	maxFiles    = 512 // journal files of one machine
	maxOpen     = 8   // files that are held open
	maxSeqnums  = 8   // sequences that a cursor remembers
	rescanEvery = 60  // polls, in case a change of the folder is missed
)

// Match is a field and its value. Only fields that begin with an underscore are the journal's own word; programs write
// all others as they like.
type Match struct {
	Field string
	Value string
}

// Entry is one entry of the journal.
type Entry struct {
	// Seqnum counts the entries of one sequence, which goes over many files.
	Seqnum   uint64
	SeqnumID ID
	// Realtime is when it was received, by the clock of the wall as it was set then; Monotonic since boot.
	Realtime  time.Time
	Monotonic time.Duration
	BootID    ID
	// Message is MESSAGE, at most MaxMessage bytes of it.
	Message string
	// Priority is PRIORITY, a level of syslog(3) from 0 (emergency) to 7 (debug); -1 where there is none.
	Priority int
	// Unit is _SYSTEMD_UNIT: the unit whose process wrote it.
	Unit string
	// Identifier is SYSLOG_IDENTIFIER: what the program calls itself.
	Identifier string
	// AboutUnit is UNIT: the unit that systemd speaks of.
	AboutUnit string
}

// Cursor is a place in the journal.
type Cursor struct {
	// Seqnums are the last entries given, by the ID of their sequence.
	Seqnums map[string]uint64 `json:"seqnums,omitempty"`
	// Realtime of the last entry given, in microseconds, for sequences that are not among them.
	Realtime uint64 `json:"realtime,omitempty"`
}

// Options of a Reader.
type Options struct {
	// Any of the matches lets an entry through.
	Any []Match
	// BootID of the entries; the zero value lets those of all boots through.
	BootID ID
	// Since is when the first entries are from where no cursor says it; the zero value is the oldest there is.
	Since time.Time
	// Cursor of an earlier Reader.
	Cursor Cursor
}

// Stats count what a Reader could not give.
type Stats struct {
	// Broken files and entries, which are corrupt or of a version that is not known.
	Broken int64
	// Packed entries, whose message is compressed in a way that is not read.
	Packed int64
}

// Reader gives the entries of the system's journal that match, as they are written. It is not safe for concurrent use.
// A poll of a journal at rest costs a few small reads; others' entries in the same files cost nothing.
type Reader struct {
	host    host.Host
	options Options
	stats   Stats
	unpack  unpacker

	files   []*openFile
	done    map[ID]bool // files that are read to their end, for good
	bad     map[string]bool
	changed map[string]time.Time
	polls   int

	seqnums map[ID]uint64
	newest  place
	lastID  ID // sequence of the newest
	seen    bool
}

// openFile is a file that may still grow.
type openFile struct {
	*file
	handle *os.File
	path   string
	gone   bool // no longer in the folder
	floor  place
}

// Open gives a Reader of the journal below the root of the host. Close it after use.
func Open(h host.Host, o Options) *Reader {
	r := &Reader{host: h, options: o, done: map[ID]bool{}, bad: map[string]bool{}, changed: map[string]time.Time{}, seqnums: map[ID]uint64{}}
	for text, seqnum := range o.Cursor.Seqnums {
		if id, err := ParseID(text); err == nil && len(r.seqnums) < maxSeqnums {
			r.seqnums[id] = seqnum
		}
	}
	r.newest.realtime = o.Cursor.Realtime
	return r
}

// Stats so far.
func (r *Reader) Stats() Stats { return r.stats }

// Seen says whether the journal has had an entry that matches, of any age.
func (r *Reader) Seen() bool { return r.seen }

// Cursor is behind the last entry given.
func (r *Reader) Cursor() Cursor {
	c := Cursor{Realtime: r.newest.realtime, Seqnums: map[string]uint64{}}
	for id, seqnum := range r.seqnums {
		c.Seqnums[id.String()] = seqnum
	}
	return c
}

// Close gives the files back.
func (r *Reader) Close() {
	for _, of := range r.files {
		_ = of.handle.Close() // they were only read
	}
	r.files = nil
	r.unpack.close()
}

// Poll gives each entry that has been added since the last poll. give returning false ends the poll; the next goes on
// with the entry after. The error is fs.ErrNotExist where the host has no journal.
func (r *Reader) Poll(give func(Entry) bool) error {
	if err := r.rescan(); err != nil {
		return err
	}
	for _, of := range r.files {
		goOn, err := r.read(of, give)
		if err != nil {
			r.stats.Broken++
			of.gone = true
		}
		if !goOn {
			return nil
		}
	}
	r.closeFinished()
	return nil
}

// read gives what has been added to one file.
func (r *Reader) read(of *openFile, give func(Entry) bool) (goOn bool, err error) {
	grown, err := of.refresh()
	if err != nil || !grown {
		return true, err
	}
	for _, c := range of.chains {
		if err := r.refresh(of, c); err != nil {
			c.broken = true
			r.stats.Broken++
		}
	}
	of.started = true
	entries := of.header.entries
	for at := of.next(); at != 0; at = of.next() {
		if !r.give(of, at, give) {
			return false, nil
		}
	}
	of.seen = entries
	return true, nil
}

// refresh looks for what a chain has got, and at first goes past what is old.
func (r *Reader) refresh(of *openFile, c *chain) error {
	if err := c.refresh(of.file); err != nil {
		return err
	}
	if c.data == 0 {
		return nil
	}
	r.seen = true
	if of.started {
		return nil
	}
	return c.skip(of.file, func(at uint64) (bool, error) {
		p, err := of.place(at)
		return of.old(p), err
	})
}

// give reads an entry and hands it on, unless it is not meant.
func (r *Reader) give(of *openFile, at uint64, give func(Entry) bool) bool {
	p, err := of.place(at)
	if err != nil {
		r.stats.Broken++
		return true
	}
	if of.old(p) || (r.options.BootID != ID{} && p.boot != r.options.BootID) {
		return true
	}
	entry, err := of.entry(at, p, &r.unpack)
	switch {
	case errors.Is(err, errPacked):
		r.stats.Packed++
		return true
	case err != nil:
		r.stats.Broken++
		return true
	}
	r.newest, r.lastID = p, of.header.seqnumID
	r.seqnums[of.header.seqnumID] = p.seqnum
	return give(entry)
}

// old says whether an entry lies below what is asked for.
func (of *openFile) old(p place) bool {
	if of.floor.seqnum > 0 {
		return p.seqnum <= of.floor.seqnum
	}
	// The journal is copied from run to var in each boot, and its entries get new numbers: they are known by their time.
	if of.floor.boot == p.boot && p.boot != (ID{}) {
		return p.monotonic <= of.floor.monotonic
	}
	return p.realtime <= of.floor.realtime
}

// rescan opens the files that are new where the folders have changed.
func (r *Reader) rescan() error {
	due := r.polls%rescanEvery == 0
	r.polls++
	found := false
	for _, folder := range folders {
		for _, machine := range r.machines(folder) {
			info, err := os.Stat(machine)
			if err != nil {
				continue
			}
			found = true
			if !due && info.ModTime().Equal(r.changed[machine]) {
				continue
			}
			r.changed[machine] = info.ModTime()
			r.scan(machine)
		}
	}
	if !found && len(r.files) == 0 {
		return fmt.Errorf("looking for the journal, %w", fs.ErrNotExist)
	}
	return nil
}

// machines lists the folders of journals, named by the ID of the machine.
func (r *Reader) machines(folder string) []string {
	entries, err := os.ReadDir(r.host.Path(folder))
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		if _, err := ParseID(e.Name()); err == nil && e.IsDir() && len(paths) < maxMachines {
			paths = append(paths, r.host.Path(folder, e.Name()))
		}
	}
	return paths
}

// scan opens what is new in a folder, and marks what has gone from it.
func (r *Reader) scan(folder string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	present := map[ID]bool{}
	for _, e := range entries {
		if isSystemJournal(e.Name()) && len(present) < maxFiles {
			if id, ok := r.meet(filepath.Join(folder, e.Name())); ok {
				present[id] = true
			}
		}
	}
	for _, of := range r.files {
		if filepath.Dir(of.path) == folder && !present[of.header.fileID] {
			of.gone = true
		}
	}
	// In the order in which they were written, so that entries come in theirs.
	slices.SortStableFunc(r.files, func(a, b *openFile) int {
		return int(min(max(int64(a.header.first-b.header.first), -1), 1))
	})
}

// isSystemJournal leaves the journals of users out; a tilde ends the names of those that were not closed well.
func isSystemJournal(name string) bool {
	return name == "system.journal" || strings.HasPrefix(name, "system@") &&
		(strings.HasSuffix(name, ".journal") || strings.HasSuffix(name, ".journal~"))
}

// meet opens a file unless it is known by its ID; its name changes with rotation.
func (r *Reader) meet(path string) (ID, bool) {
	handle, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ID{}, false
	}
	f, err := newFile(handle, r.options.Any)
	if err != nil {
		_ = handle.Close()
		if errors.Is(err, io.EOF) {
			delete(r.changed, filepath.Dir(path)) // it has just been made and has no header yet
		} else if !r.bad[path] && len(r.bad) < maxFiles {
			r.bad[path] = true
			r.stats.Broken++
		}
		return ID{}, false
	}
	id := f.header.fileID
	of := &openFile{file: f, handle: handle, path: path, floor: r.floor(f.header)}
	for _, known := range r.files {
		if known.header.fileID == id {
			known.path = path
			_ = handle.Close()
			return id, true
		}
	}
	if r.done[id] || of.finished() && of.allOld() {
		// Whether it holds entries that match is still worth knowing.
		r.seen = r.seen || !r.done[id] && of.matches()
		r.done[id] = true
		_ = handle.Close()
		return id, true
	}
	r.files = append(r.files, of)
	return id, true
}

// floor is what of a file counts as old.
func (r *Reader) floor(h header) place {
	if seqnum, ok := r.seqnums[h.seqnumID]; ok {
		return place{seqnum: seqnum}
	}
	floor := r.newest
	floor.seqnum = 0
	if floor.realtime == 0 && !r.options.Since.IsZero() {
		floor.realtime = uint64(max(r.options.Since.UnixMicro()-1, 0))
	}
	return floor
}

// allOld says that the header alone shows that nothing in the file is asked for.
func (of *openFile) allOld() bool {
	if of.floor.seqnum > 0 {
		return of.header.lastSeq <= of.floor.seqnum
	}
	return of.header.last <= of.floor.realtime
}

func (of *openFile) matches() bool {
	for _, c := range of.chains {
		if err := c.refresh(of.file); err == nil && c.data != 0 {
			return true
		}
	}
	return false
}

// finished says that nobody writes into the file any more.
func (of *openFile) finished() bool {
	return of.gone || of.header.state == stateArchived || strings.HasSuffix(of.path, "~")
}

// closeFinished closes files that have been read to their end, and the oldest of too many.
func (r *Reader) closeFinished() {
	open := r.files[:0]
	for i, of := range r.files {
		if !of.finished() && len(r.files)-i <= maxOpen {
			open = append(open, of)
			continue
		}
		_ = of.handle.Close() // it was only read
		r.done[of.header.fileID] = true
	}
	clear(r.files[len(open):])
	r.files = open
	if len(r.done) > 2*maxFiles {
		clear(r.done) // what is still in the folder is met again, and is old
	}
	for id := range r.seqnums {
		if len(r.seqnums) <= maxSeqnums {
			break
		}
		if id != r.lastID {
			delete(r.seqnums, id)
		}
	}
}
