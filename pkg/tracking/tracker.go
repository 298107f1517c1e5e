package tracking

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Catalogue gives the reasons in force.
type Catalogue interface {
	// Reason gives what is known of a reason; false where nothing is.
	Reason(name string) (health.Reason, bool)
	// Off says that a person switched the reason off.
	Off(name string) bool
}

// maxSubjects is how many subjects of one reason are told apart; the others share the subject Others.
const maxSubjects = 32

// Others is the subject of the findings beyond maxSubjects.
const Others = "others"

// Tracker holds the findings of one source. It is not safe for concurrent use.
type Tracker struct {
	source    string
	interval  time.Duration
	catalogue Catalogue
	entries   map[Key]*Entry
}

// New gives a tracker without findings. interval is that between the looks of the detector.
func New(source string, interval time.Duration, catalogue Catalogue) *Tracker {
	return &Tracker{source: source, interval: interval, catalogue: catalogue, entries: map[Key]*Entry{}}
}

// Update takes in what the detector saw at now. What is neither in the catalogue nor switched off is an error of the
// detector; the rest is taken in all the same.
func (t *Tracker) Update(look Look, now time.Time) error {
	var unknown []string
	stands := map[Key]bool{}
	for _, fault := range look.Faults {
		r, ok := t.reason(fault.Reason, &unknown)
		if !ok {
			continue
		}
		e := t.entry(fault.Reason, fault.Subject, now)
		stands[e.Key] = true
		e.stand(fault, now, t.interval)
		e.judge(r, now)
	}
	for key, e := range t.entries {
		if e.Stands && !stands[key] {
			e.Stands, e.StandsSince, e.StoodFor, e.Looks, e.CountedLook = false, time.Time{}, 0, 0, time.Time{}
		}
	}
	for _, sighting := range look.Sightings {
		if r, ok := t.reason(sighting.Reason, &unknown); ok {
			t.sight(sighting, r, now)
		}
	}
	t.expire(now)
	if len(unknown) > 0 {
		return fmt.Errorf("the catalogue has no reason %s", strings.Join(slices.Compact(unknown), ", "))
	}
	return nil
}

func (t *Tracker) reason(name string, unknown *[]string) (health.Reason, bool) {
	if t.catalogue.Off(name) {
		return health.Reason{}, false
	}
	r, ok := t.catalogue.Reason(name)
	if !ok {
		*unknown = append(*unknown, name)
	}
	return r, ok
}

// entry gives the entry of a key, a new one where there is none.
func (t *Tracker) entry(reason, subject string, since time.Time) *Entry {
	key := Key{Reason: reason, Subject: health.Shorten(subject, maxSubject)}
	if e, ok := t.entries[key]; ok {
		return e
	}
	if t.subjects(reason) >= maxSubjects {
		key.Subject = Others
		if e, ok := t.entries[key]; ok {
			return e
		}
	}
	e := &Entry{Key: key, Since: since}
	t.entries[key] = e
	return e
}

func (t *Tracker) subjects(reason string) int {
	n := 0
	for key := range t.entries {
		if key.Reason == reason {
			n++
		}
	}
	return n
}

// stand takes in a fault that stands.
func (e *Entry) stand(fault Fault, now time.Time, interval time.Duration) {
	if !fault.Since.IsZero() && fault.Since.Before(e.Since) {
		e.Since = fault.Since
	}
	if !e.Stands {
		e.Stands, e.StandsSince = true, now
		if !fault.Since.IsZero() && fault.Since.Before(now) {
			e.StandsSince = fault.Since
		}
	}
	e.StoodFor = now.Sub(e.StandsSince)
	// Looks that an event brought forward are not a second opinion.
	if e.CountedLook.IsZero() || now.Sub(e.CountedLook) >= interval/2 {
		e.Looks, e.CountedLook = e.Looks+1, now
	}
	e.Count, e.LastObserved = max(e.Count, 1), now
	e.Given, e.ConfirmAfter = fault.Severity, fault.ConfirmAfter
	e.Message = health.Shorten(fault.Message, maxMessage)
	e.Evidence = nil
	e.see(fault.Evidence...)
}

// sight takes in something that passed.
func (t *Tracker) sight(s Sighting, r health.Reason, now time.Time) {
	at := s.At
	if at.IsZero() || at.After(now) {
		at = now
	}
	if s.Recovered {
		for key := range t.entries {
			if key.Reason == s.Reason && (s.Subject == "" || key.Subject == s.Subject) {
				delete(t.entries, key)
			}
		}
		return
	}
	e := t.entry(s.Reason, s.Subject, at)
	if quiet := r.Clears.Quiet; quiet > 0 && !e.LastObserved.IsZero() && !e.Stands && at.Sub(e.LastObserved) >= quiet {
		*e = Entry{Key: e.Key, Since: at} // the episode before had ended
	}
	count := max(s.Count, 1)
	e.Count += count
	if at.After(e.LastObserved) {
		e.LastObserved = at
	}
	if at.Before(e.Since) {
		e.Since = at
	}
	needed := recentNeeded(r)
	for range min(count, int64(needed)) {
		e.Recent = append(e.Recent, at)
	}
	if over := len(e.Recent) - needed; over > 0 {
		e.Recent = slices.Delete(e.Recent, 0, over)
	}
	e.Given = s.Severity
	e.Message = health.Shorten(s.Message, maxMessage)
	e.see(s.Evidence)
	e.judge(r, at)
}

// expire ends what is over at now.
func (t *Tracker) expire(now time.Time) {
	for key, e := range t.entries {
		if e.LastObserved.After(now) {
			e.LastObserved = now // the clock was set back: a time of quiet begins now
		}
		if r, ok := t.catalogue.Reason(key.Reason); !ok || t.catalogue.Off(key.Reason) || e.over(r, now) {
			delete(t.entries, key)
		}
	}
}

// Findings that hold at now, in the order of their keys. What must still be confirmed is shown as a Warning where it
// will be Fatal, and not at all where it will be a Warning.
func (t *Tracker) Findings(now time.Time) []v1alpha1.Finding {
	t.expire(now)
	var out []v1alpha1.Finding
	for _, e := range t.entries {
		r, ok := t.catalogue.Reason(e.Reason)
		if !ok {
			continue
		}
		if !e.Confirmed && e.base(r) == v1alpha1.SeverityWarning {
			continue
		}
		out = append(out, e.finding(t.source, r))
	}
	slices.SortFunc(out, func(a, b v1alpha1.Finding) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Subject, b.Subject))
	})
	return out
}

func (e *Entry) finding(source string, r health.Reason) v1alpha1.Finding {
	f := v1alpha1.Finding{
		Source: source, Reason: e.Reason, Subject: e.Subject, Category: r.Category, Severity: v1alpha1.SeverityWarning,
		Since: seconds(e.Since), LastObserved: new(seconds(e.LastObserved)), Count: max(e.Count, 1),
		Message: cmp.Or(e.Message, r.Explanation), Evidence: slices.Clone(e.Evidence),
	}
	if e.Fatal {
		f.Severity = v1alpha1.SeverityFatal
	} else if !e.Confirmed {
		f.Message = strings.TrimRight(f.Message, ". ") + " (not confirmed yet: becomes Fatal " + e.confirmWhen(r.Confirm) + ")"
	}
	return f
}

// confirmWhen says what it takes to be confirmed.
func (e *Entry) confirmWhen(c health.Confirm) string {
	if after, ok := e.confirmAfter(c); ok && (e.Stands || c.For > 0) {
		return "once it has stood for " + after.String()
	}
	if c.Within > 0 {
		return fmt.Sprintf("once it was seen %d times in %s", c.Count, c.Within)
	}
	return fmt.Sprintf("once it was seen %d times", c.Count)
}

// seconds gives a time as the API keeps it.
func seconds(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }

// Next is the moment after now from which the findings may differ without a further sighting; zero: never.
func (t *Tracker) Next(now time.Time) time.Time {
	var next time.Time
	earlier := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	for _, e := range t.entries {
		r, ok := t.catalogue.Reason(e.Reason)
		switch {
		case !ok:
		case e.Stands:
			if after, ok := e.confirmAfter(r.Confirm); ok && !e.Confirmed {
				earlier(e.StandsSince.Add(after))
			}
		case r.Clears.Quiet > 0:
			earlier(e.LastObserved.Add(r.Clears.Quiet))
		}
	}
	if !next.IsZero() && next.Before(now) {
		return now
	}
	return next
}

// State is what a restart must not forget, in the order of the keys.
func (t *Tracker) State() []Entry {
	out := make([]Entry, 0, len(t.entries))
	for _, e := range t.entries {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Subject, b.Subject))
	})
	return out
}

// Restore takes back what State gave, at now. It is for the same boot of the machine: a new boot begins without findings.
//
// What must stand for a time goes on where it was. The time between, in which nobody looked, does not count: nobody can
// say how long it was where the clock was set meanwhile, and a step of the clock must not confirm a fault.
func (t *Tracker) Restore(state []Entry, now time.Time) {
	for _, e := range state {
		if e.Stands {
			e.StandsSince = now.Add(-max(e.StoodFor, 0))
		}
		if !e.CountedLook.IsZero() {
			e.CountedLook = now
		}
		t.entries[e.Key] = &e
	}
}
