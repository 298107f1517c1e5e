package node

import (
	"os"
	"path/filepath"
	"time"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/journal"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/logfile"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

// serviceSearcher looks for the log of a service: the journal first, since it knows who wrote an entry.
type serviceSearcher struct {
	of      *ServiceLog
	journal *serviceJournal
	zone    *time.Location
	notOld  time.Time
	resume  servicePosition
}

func (s *ServiceLog) newSearch() (*serviceSearcher, error) {
	now := s.clock.Now()
	search := &serviceSearcher{of: s, zone: serviceZone(s.host), resume: s.position, notOld: now.Add(-serviceBacklog)}
	// From where the agent was before, lines count as far back as the boot.
	boot, err := s.host.BootTime()
	if err == nil && (s.position.Journal != nil || s.position.File != nil || boot.After(search.notOld)) {
		search.notOld = boot
	}
	matches := s.matches()
	if len(matches) == 0 {
		return search, nil
	}
	o := journal.Options{Any: matches, Since: search.notOld}
	if text, err := s.host.BootID(); err == nil {
		if o.BootID, err = journal.ParseID(text); err != nil {
			return nil, err
		}
	}
	if s.position.Journal != nil {
		o.Cursor = *s.position.Journal
	}
	search.journal = &serviceJournal{reader: journal.Open(s.host, o), stream: s.stream, clock: s.clock}
	return search, nil
}

// serviceZone is the host's, in which syslog and klog write times.
func serviceZone(h host.Host) *time.Location {
	const most = 64 << 10 // files of the time zone database have a few KiB
	path := h.Path("etc/localtime")
	if info, err := os.Stat(path); err != nil || info.Size() > most || !info.Mode().IsRegular() {
		return time.UTC
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return time.UTC
	}
	zone, err := time.LoadLocationFromTZData("Local", data)
	if err != nil {
		return time.UTC
	}
	return zone
}

// file gives the log file; nil where there is none, for now.
func (s *serviceSearcher) file() serviceInput {
	for _, shared := range []bool{false, true} {
		patterns := s.of.options.Files
		if shared {
			patterns = s.of.options.Shared
		}
		for _, pattern := range patterns {
			path := serviceNewest(s.of.host, pattern)
			if path == "" {
				continue
			}
			f := &serviceFile{
				host: s.of.host, clock: s.of.clock, stream: s.of.stream, zone: s.zone, notOld: s.notOld, pattern: pattern, shared: shared,
			}
			if was := s.resume; was.File != nil && serviceMatches(s.of.host, pattern, was.Path) {
				f.open(was.Path)
				f.follower.Resume(*was.File)
			} else {
				f.open(path)
			}
			s.resume = servicePosition{}
			return f
		}
	}
	return nil
}

func (s *serviceSearcher) close() {
	if s.journal != nil {
		s.journal.close()
	}
}

// serviceNewest gives the file of a pattern that was written to last; empty where there is none.
func serviceNewest(h host.Host, pattern string) string {
	paths, err := filepath.Glob(h.Path(pattern))
	if err != nil {
		return ""
	}
	newest, at := "", time.Time{}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && (newest == "" || info.ModTime().After(at)) {
			newest, at = path, info.ModTime()
		}
	}
	return newest
}

func serviceMatches(h host.Host, pattern, path string) bool {
	matched, err := filepath.Match(h.Path(pattern), path)
	if err != nil || !matched {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}

// serviceJournal reads the entries of a service in the journal.
type serviceJournal struct {
	reader *journal.Reader
	stream health.Stream
	clock  clock.Clock
	lost   int64
}

func (j *serviceJournal) poll(give func(time.Time, string)) (more bool, lost int64, err error) {
	count, now := 0, j.clock.Now()
	err = j.reader.Poll(func(e journal.Entry) bool {
		count++
		at := e.Realtime
		if at.After(now) {
			at = now
		}
		if line, ok := rules.Unwrap(j.stream, e.Message); ok {
			give(at, line)
		}
		return count < serviceBatch
	})
	stats := j.reader.Stats()
	before := j.lost
	j.lost = stats.Broken + stats.Packed
	return count == serviceBatch, j.lost - before, err
}

func (j *serviceJournal) position() servicePosition {
	cursor := j.reader.Cursor()
	return servicePosition{Journal: &cursor}
}

func (j *serviceJournal) close() { j.reader.Close() }

// serviceFile reads the lines of a service in a log file. Lines that are cut, and bytes before the backlog, are no loss:
// what names a fault stands at the start of a line, and old lines do not count.
type serviceFile struct {
	host    host.Host
	clock   clock.Clock
	stream  health.Stream
	zone    *time.Location
	notOld  time.Time
	pattern string
	shared  bool

	path     string
	follower *logfile.Follower
	live     bool // what was there before has been read
	polls    int
}

func (f *serviceFile) open(path string) {
	f.path, f.follower, f.live = path, logfile.New(path, logfile.Options{}), false
}

func (f *serviceFile) poll(give func(time.Time, string)) (more bool, lost int64, err error) {
	count, now := 0, f.clock.Now()
	err = f.follower.Poll(func(line []byte, backlog bool) bool {
		count++
		text := string(line)
		if at, ok := f.at(text, now, backlog); ok {
			if line, ok := f.unwrap(text); ok {
				give(at, line)
			}
		}
		return count < serviceBatch
	})
	if count == serviceBatch {
		return true, 0, err
	}
	f.live = true
	if f.polls++; f.polls%serviceSearch == 0 {
		f.turn()
	}
	return false, 0, err
}

// turn goes to another file where that is written to by now, as a container's next log is.
func (f *serviceFile) turn() {
	if newest := serviceNewest(f.host, f.pattern); newest != "" && newest != f.path {
		f.follower.Close()
		f.open(newest)
	}
}

// serviceDelay is how much older than its reading a line may be that was read as it was written; more is a clock, or a
// time zone, that is not ours.
const serviceDelay = time.Minute

// at is when a line was written; false where it is too old to count.
func (f *serviceFile) at(line string, now time.Time, backlog bool) (time.Time, bool) {
	at, ok := logTime(line, now, f.zone)
	switch {
	case ok && !f.live && at.Before(f.notOld):
		return time.Time{}, false
	case !ok && backlog:
		return time.Time{}, false
	case !ok, at.After(now), f.live && now.Sub(at) > serviceDelay:
		return now, true
	}
	return at, true
}

func (f *serviceFile) unwrap(line string) (string, bool) {
	if !f.shared {
		return rules.Unwrap(f.stream, line)
	}
	stream, text, ok := rules.UnwrapMessages(line)
	return text, ok && stream == f.stream
}

func (f *serviceFile) position() servicePosition {
	cursor := f.follower.Cursor()
	return servicePosition{File: &cursor, Path: f.path}
}

func (f *serviceFile) close() { f.follower.Close() }
