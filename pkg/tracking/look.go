// Package tracking turns what detectors see into findings: it confirms, counts, and clears them as the catalogue of
// reasons says. It is pure: values and a time go in, values come out.
package tracking

import (
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Look is the whole current truth of one detector.
type Look struct {
	// Faults that stand at this moment. One that is no longer among them has gone; how long it must have been gone is
	// the catalogue's to say.
	Faults []Fault
	// Sightings since the look before: things that pass, as log lines do.
	Sightings []Sighting
	// Degraded says in a sentence what has been lost or cannot be seen in part; empty where all is seen.
	Degraded string
	// Lost is how many records were lost since the look before.
	Lost int64
}

// Fault is something that stands for as long as it is looked at: a link that is down, a filesystem that is read-only.
type Fault struct {
	Reason  string
	Subject string
	// Severity where the detector knows more than the catalogue; a Warning never becomes Fatal then. Empty: the
	// catalogue's.
	Severity v1alpha1.Severity
	// Message is one sentence for people; it should not change while nothing else does.
	Message string
	// Evidence is what was seen: values, lines. Five at most are kept.
	Evidence []string
	// Since is when the fault began, where that is known; zero: when it was first looked at.
	Since time.Time
	// ConfirmAfter is how long it must stand before it counts, in the place of the catalogue's confirm; nil: the
	// catalogue's.
	ConfirmAfter *time.Duration
}

// Sighting is something that passes: a log line, a counter that rose.
type Sighting struct {
	Reason  string
	Subject string
	At      time.Time
	// Count of events that the sighting stands for; 0 is 1.
	Count int64
	// Severity where the detector knows more than the catalogue; a Warning never becomes Fatal then. Empty: the
	// catalogue's.
	Severity v1alpha1.Severity
	Message  string
	Evidence string
	// Recovered says that it is over: findings with this reason and subject end, all of the reason where Subject is
	// empty.
	Recovered bool
}
