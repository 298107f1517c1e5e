package tracking

import (
	"slices"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Key tells findings of one source apart.
type Key struct {
	Reason  string `json:"reason"`
	Subject string `json:"subject,omitempty"`
}

// Entry is what is remembered of one fault; a State is made of them.
type Entry struct {
	Key
	// Since is when the episode began, LastObserved when it was last seen.
	Since        time.Time `json:"since"`
	LastObserved time.Time `json:"lastObserved"`
	Count        int64     `json:"count"`
	// Stands says that the last look found it; StandsSince since when every look did, and Looks how many of them were
	// an interval apart. Of something that passes all three are zero.
	Stands      bool      `json:"stands,omitempty"`
	StandsSince time.Time `json:"standsSince,omitzero"`
	// StoodFor is how long that is at the last look. It is kept since the times of a State are those of the wall's clock,
	// which may be set meanwhile.
	StoodFor    time.Duration `json:"stoodFor,omitempty"`
	Looks       int           `json:"looks,omitempty"`
	CountedLook time.Time     `json:"countedLook,omitzero"`
	// Recent are the times of the newest sightings, as many as the catalogue asks about, the oldest first.
	Recent []time.Time `json:"recent,omitempty"`
	// Confirmed and Fatal hold for the rest of the episode.
	Confirmed bool `json:"confirmed,omitempty"`
	Fatal     bool `json:"fatal,omitempty"`
	// Given is the severity that the detector gave, if any.
	Given    v1alpha1.Severity `json:"given,omitempty"`
	Message  string            `json:"message,omitempty"`
	Evidence []string          `json:"evidence,omitempty"`
	// ConfirmAfter is what the detector gave in the place of the catalogue's confirm.
	ConfirmAfter *time.Duration `json:"confirmAfter,omitempty"`
}

// Bounds of what an entry holds, in characters and numbers; those of the API or below.
const (
	maxMessage  = 900
	maxEvidence = 5
	maxLine     = 512
	maxSubject  = 253
)

// base is the severity that a confirmed finding has before any fatalFrom.
func (e *Entry) base(r health.Reason) v1alpha1.Severity {
	if e.Given != "" {
		return e.Given
	}
	return r.Severity
}

// judge latches Confirmed and Fatal as far as they have been reached at now.
func (e *Entry) judge(r health.Reason, now time.Time) {
	e.Confirmed = e.Confirmed || e.reached(r.Confirm, now)
	if !e.Confirmed {
		return
	}
	switch {
	case e.base(r) == v1alpha1.SeverityFatal:
		e.Fatal = true
	case e.Given == "" && r.FatalFrom != nil && e.reached(*r.FatalFrom, now):
		e.Fatal = true
	}
}

// reached says whether what c asks for has been seen. A passing thing never reaches a duration: one line does not say
// that the fault still stands.
func (e *Entry) reached(c health.Confirm, now time.Time) bool {
	if e.Stands {
		if after, ok := e.confirmAfter(c); ok {
			return now.Sub(e.StandsSince) >= after
		}
		return e.Looks >= max(c.Count, 1)
	}
	if c.For > 0 || len(e.Recent) == 0 {
		return false
	}
	if c.Within == 0 {
		return e.Count >= int64(c.Count)
	}
	from := e.Recent[len(e.Recent)-1].Add(-c.Within)
	n := 0
	for _, at := range e.Recent {
		if !at.Before(from) {
			n++
		}
	}
	return n >= c.Count
}

// confirmAfter is how long a standing fault must stand; false where looks are counted instead.
func (e *Entry) confirmAfter(c health.Confirm) (time.Duration, bool) {
	switch {
	case e.ConfirmAfter != nil:
		return *e.ConfirmAfter, true
	case c.For > 0 || c.Count == 0:
		return c.For, true
	default:
		return 0, false
	}
}

// over says whether the episode has ended by now.
func (e *Entry) over(r health.Reason, now time.Time) bool {
	if e.Stands {
		return false
	}
	switch r.Clears.By {
	case health.ClearsByPoll:
		// Of something that passes nobody can look whether it stands: its detector says when it has recovered.
		return len(e.Recent) == 0
	case health.ClearsByQuiet, health.ClearsByPair:
		return r.Clears.Quiet > 0 && now.Sub(e.LastObserved) >= r.Clears.Quiet
	default:
		return false
	}
}

// recentNeeded is how many times of sightings the reason asks about.
func recentNeeded(r health.Reason) int {
	n := max(r.Confirm.Count, 1)
	if r.FatalFrom != nil {
		n = max(n, r.FatalFrom.Count)
	}
	return min(n, 1000)
}

// see adds evidence: the first that was seen, and the newest.
func (e *Entry) see(lines ...string) {
	for _, line := range lines {
		line = health.Shorten(line, maxLine)
		if line == "" || slices.Contains(e.Evidence, line) {
			continue
		}
		if len(e.Evidence) >= maxEvidence {
			e.Evidence = slices.Delete(slices.Clone(e.Evidence), 1, 2)
		}
		e.Evidence = append(e.Evidence, line)
	}
}
