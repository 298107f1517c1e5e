package node

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/tracking"
)

// LogLines says what log lines mean; *rules.Catalogue does.
type LogLines interface {
	// Match gives the meaning of a line, without the framing of its log; false where it has none.
	Match(stream health.Stream, line string) (rules.Match, bool)
	// Reason gives what holds for a reason.
	Reason(name string) (health.Reason, bool)
}

// Bounds of what a log may make an agent do; all are our own choice.
const (
	// logMerge is over what time sightings of the same thing become one. It is small against the times in which the
	// catalogue counts, so that a week's worth of lines, read at once, does not look like a burst.
	logMerge = 10 * time.Second
	// logMaxMerged is how many such sightings of one thing are kept between two looks, the newest.
	logMaxMerged = 32
	// logMaxSubjects is how many subjects of one reason are told apart; the rest is tracking.Others.
	logMaxSubjects = 64
	// logMaxKeys bounds the reasons and subjects between two looks.
	logMaxKeys = 2048
	// logSubjectKept is how long a subject holds its place after it was last seen; the longest quiet of the catalogue.
	logSubjectKept = time.Hour
	// logRate is how many lines of one reason within a second are looked at for who they are about; what goes beyond is
	// only counted.
	logRate = 100
	// logLossShown is how long after a loss the source stays degraded.
	logLossShown = 5 * time.Minute
	// logWakeEvery is how often a look is asked for at most.
	logWakeEvery = 200 * time.Millisecond
	// logReadWithin is how long a look waits for what was in the log before the agent.
	logReadWithin = 10 * time.Second
	// logRetryAfter is how long a log that cannot be read is left alone.
	logRetryAfter = 10 * time.Second
)

type logKey struct{ reason, subject string }

// logSightings gathers what the lines of one stream mean, between two looks. Its size does not depend on how many lines
// there are. The lock is for the reader of the log and the look.
type logSightings struct {
	lines  LogLines
	stream health.Stream
	dirty  chan struct{}

	mu        sync.Mutex
	seen      map[logKey][]tracking.Sighting
	order     []logKey
	recovered map[logKey]tracking.Sighting
	subjects  map[string]map[string]time.Time
	rates     map[string]*logSecond

	lost      int64 // since the look before
	lostShown int64 // since lossBegan
	lossBegan time.Time
	lossEnded time.Time
}

// logSecond counts the lines of a reason within one second.
type logSecond struct {
	second int64
	lines  int
}

func newLogSightings(lines LogLines, stream health.Stream) *logSightings {
	return &logSightings{
		lines: lines, stream: stream, dirty: make(chan struct{}, 1), seen: map[logKey][]tracking.Sighting{},
		recovered: map[logKey]tracking.Sighting{}, subjects: map[string]map[string]time.Time{}, rates: map[string]*logSecond{},
	}
}

// take looks at one line. The lock is held.
func (g *logSightings) take(at time.Time, line string) {
	m, ok := g.lines.Match(g.stream, line)
	if !ok {
		return
	}
	select {
	case g.dirty <- struct{}{}:
	default:
	}
	switch {
	case m.Recovers:
		g.recover(m, at)
	case m.Echo:
		g.echo(m, line)
	default:
		g.add(m, at, line)
	}
	if m.CountsToward != "" {
		g.add(rules.Match{Reason: m.CountsToward, Message: m.Message}, at, line)
	}
}

// recover forgets what came before: it is over.
func (g *logSightings) recover(m rules.Match, at time.Time) {
	for key := range g.seen {
		if key.reason == m.Reason && (m.Subject == "" || key.subject == m.Subject) {
			g.forget(key)
		}
	}
	key := logKey{reason: m.Reason, subject: m.Subject}
	if _, ok := g.recovered[key]; !ok && len(g.recovered) >= logMaxKeys {
		g.lost++
		return
	}
	g.recovered[key] = tracking.Sighting{Reason: m.Reason, Subject: m.Subject, At: at, Message: m.Message, Recovered: true}
}

func (g *logSightings) forget(key logKey) {
	delete(g.seen, key)
	g.order = slices.DeleteFunc(g.order, func(k logKey) bool { return k == key })
}

// echo shows a line beside the one that was counted for the same event.
func (g *logSightings) echo(m rules.Match, line string) {
	if before := g.seen[logKey{reason: m.Reason, subject: m.Subject}]; len(before) > 0 {
		before[len(before)-1].Evidence = line
	}
}

// add counts one line.
func (g *logSightings) add(m rules.Match, at time.Time, line string) {
	key := logKey{reason: m.Reason, subject: m.Subject}
	before := g.seen[key]
	if len(before) == 0 {
		if key.subject != tracking.Others && (g.overRate(m.Reason, at) || !g.place(m.Reason, m.Subject, at)) {
			key.subject = tracking.Others
			before = g.seen[key]
		}
	}
	if n := len(before); n > 0 && at.Sub(before[n-1].At).Abs() < logMerge {
		before[n-1].Count++
		return
	}
	if len(before) == 0 {
		if len(g.seen) >= logMaxKeys {
			g.lost++
			return
		}
		g.order = append(g.order, key)
	}
	if len(before) >= logMaxMerged {
		before = slices.Delete(before, 0, 1)
	}
	g.seen[key] = append(before, tracking.Sighting{
		Reason: key.reason, Subject: key.subject, At: at, Count: 1, Message: m.Message, Evidence: line, Severity: m.Severity,
	})
}

// overRate says whether a reason has more new subjects within a second than are worth telling apart.
func (g *logSightings) overRate(reason string, at time.Time) bool {
	rate := g.rates[reason]
	if rate == nil {
		rate = &logSecond{}
		g.rates[reason] = rate
	}
	if second := at.Unix(); second != rate.second {
		rate.second, rate.lines = second, 0
	}
	rate.lines++
	return rate.lines > logRate
}

// place finds room for a subject among those of its reason.
func (g *logSightings) place(reason, subject string, at time.Time) bool {
	of := g.subjects[reason]
	if of == nil {
		of = map[string]time.Time{}
		g.subjects[reason] = of
	}
	if _, ok := of[subject]; !ok && len(of) >= logMaxSubjects {
		g.expireSubjects(reason, of, at)
		if len(of) >= logMaxSubjects {
			return false
		}
	}
	of[subject] = at
	return true
}

// expireSubjects frees the places of those whose findings have ended by now; those that end with the boot stay.
func (g *logSightings) expireSubjects(reason string, of map[string]time.Time, at time.Time) {
	if r, ok := g.lines.Reason(reason); ok && r.Clears.By == health.ClearsByBoot {
		return
	}
	for subject, last := range of {
		if at.Sub(last) > logSubjectKept {
			delete(of, subject)
		}
	}
}

// lose counts records that nobody will see. The lock is held.
func (g *logSightings) lose(n int64) { g.lost += n }

// drain gives what was gathered: what has recovered, and then what was seen after that. The lock is held.
func (g *logSightings) drain(now time.Time) tracking.Look {
	var look tracking.Look
	for _, s := range g.recovered {
		look.Sightings = append(look.Sightings, s)
	}
	for _, key := range g.order {
		look.Sightings = append(look.Sightings, g.seen[key]...)
	}
	clear(g.recovered)
	clear(g.seen)
	g.order = g.order[:0]
	look.Lost, look.Degraded = g.lost, g.degraded(now)
	g.lost = 0
	return look
}

// degraded says for a while that records were lost.
func (g *logSightings) degraded(now time.Time) string {
	if g.lost > 0 {
		if g.lossBegan.IsZero() {
			g.lossBegan = now
		}
		g.lostShown += g.lost
		g.lossEnded = now.Add(logLossShown)
	}
	if g.lossBegan.IsZero() || !now.Before(g.lossEnded) {
		g.lossBegan, g.lostShown = time.Time{}, 0
		return ""
	}
	return fmt.Sprintf("lost %d records since %s", g.lostShown, g.lossBegan.UTC().Format(time.RFC3339))
}

// severityOf is what the detector knows more than the catalogue about a severity: only what the rule itself says, which
// shows where a single line means something else than the reason does.
func severityOf(r health.Reason, ofLine v1alpha1.Severity) v1alpha1.Severity {
	switch {
	case ofLine == v1alpha1.SeverityFatal && r.Severity != v1alpha1.SeverityFatal && r.FatalFrom == nil:
		return v1alpha1.SeverityFatal
	case ofLine == v1alpha1.SeverityWarning && r.Severity == v1alpha1.SeverityFatal && r.Confirm.AtOnce() && !r.OfNodeFilesystem:
		return v1alpha1.SeverityWarning
	}
	return ""
}

// logFollower is what all detectors of logs have in common: one goroutine that reads, and one that asks for looks.
type logFollower struct {
	clock     clock.Clock
	sightings *logSightings
	wake      netWake
	ready     chan struct{} // closed once the log has been read to its end, or cannot be
	readyOnce sync.Once

	errMu sync.Mutex
	err   error
}

func newLogFollower(clk clock.Clock, lines LogLines, stream health.Stream) *logFollower {
	return &logFollower{clock: clk, sightings: newLogSightings(lines, stream), wake: newNetWake(), ready: make(chan struct{})}
}

// Wake implements detector.Waker.
func (f *logFollower) Wake() <-chan struct{} { return f.wake }

func (f *logFollower) isReady() { f.readyOnce.Do(func() { close(f.ready) }) }

func (f *logFollower) fail(err error) {
	f.errMu.Lock()
	defer f.errMu.Unlock()
	f.err = err
}

func (f *logFollower) failure() error {
	f.errMu.Lock()
	defer f.errMu.Unlock()
	return f.err
}
