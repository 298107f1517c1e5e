// Package rules says what a log line means, and what holds for a reason: as the project's catalogue has it, and as a
// person changed it. It is pure: it takes text and returns values.
package rules

import (
	"fmt"
	"regexp"
	"sync"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health/notation"
)

// Catalogue is the reasons and line rules in force: those of the project, as a person changed them. It may be used by
// many goroutines at once.
type Catalogue struct {
	overrides map[string]override
	own       map[string]health.Reason
	ownNames  []string
	streams   map[health.Stream]*matcher
}

// Match is what one line means.
type Match struct {
	Reason string
	// Subject is what the finding is about; empty where the node is meant. A valid string of at most 253 bytes.
	Subject  string
	Category v1alpha1.Category
	// Severity is what this one line alone means to a fresh agent: Fatal only where one sighting is enough, and where
	// nothing hangs on what the line does not say.
	Severity v1alpha1.Severity
	// Given is the severity that the rule gives in the place of the reason's; empty where it gives none.
	Given v1alpha1.Severity
	// Recovers says that the line ends the finding.
	Recovers bool
	// CountsToward is a second reason that the line counts for, with no subject: any line counts, of whatever subject.
	CountsToward string
	// Echo says that the event has another line, and that this one is to be told to people and not counted.
	Echo bool
	// Message is the line, cleaned of what a terminal would act upon and shortened to 512 bytes.
	Message string
}

// New makes the catalogue that is the project's with the changes in custom. It compiles no rule of the project before a
// line asks for it. The error joins all problems, each of type Problem.
func New(custom Custom) (*Catalogue, error) {
	c := &Catalogue{overrides: map[string]override{}, own: map[string]health.Reason{}, streams: map[health.Stream]*matcher{}}
	rules, err := c.read(custom)
	if err != nil {
		return nil, err
	}
	for _, stream := range health.Streams {
		c.streams[stream] = newMatcher(append(rules[stream], project()[stream]...))
	}
	return c, nil
}

// project gives the project's own rules by stream; they are made once, and every Catalogue has the same.
var project = sync.OnceValue(func() map[health.Stream][]*rule {
	out := map[health.Stream][]*rule{}
	for _, r := range health.LineRules {
		out[r.Stream] = append(out[r.Stream], &rule{LineRule: r})
	}
	return out
})

// Reason gives what holds for a reason, overrides applied; the reason may be one of a family. False where neither the
// catalogue nor the person's rules have it.
func (c *Catalogue) Reason(name string) (health.Reason, bool) {
	r, ok := c.own[name]
	if !ok {
		r, ok = health.Lookup(name)
	}
	if !ok {
		return health.Reason{}, false
	}
	return c.override(name, r).apply(r), true
}

// Reasons lists all reasons, those of the project first, overrides applied. Families stand there once, by their name.
func (c *Catalogue) Reasons() []health.Reason {
	out := make([]health.Reason, 0, len(health.Reasons)+len(c.ownNames))
	for _, r := range health.Reasons {
		out = append(out, c.overrides[r.Name].apply(r))
	}
	for _, name := range c.ownNames {
		out = append(out, c.overrides[name].apply(c.own[name]))
	}
	return out
}

// Off says whether a reason is switched off, by its own name or as one of a family.
func (c *Catalogue) Off(name string) bool {
	if len(c.overrides) == 0 {
		return false
	}
	r, _ := health.Lookup(name)
	return c.override(name, r).off
}

// override of a reason: its own, else that of its family.
func (c *Catalogue) override(name string, r health.Reason) override {
	if o, ok := c.overrides[name]; ok {
		return o
	}
	return c.overrides[r.Name]
}

// MaxLine is how much of a line is looked at, in bytes: the kernel's own records end at about 1 KiB, and what names a
// fault stands at the beginning.
const MaxLine = 4096

// Match says what a line of a stream means, without the framing of its log (see Unwrap). The first rule that matches
// counts, a person's own rules before those of the project. A rule whose reason is switched off is passed over, unless
// it counts toward another: then that one is the match.
func (c *Catalogue) Match(stream health.Stream, line string) (Match, bool) {
	m := c.streams[stream]
	if m == nil {
		return Match{}, false
	}
	line = cut(line, MaxLine)
	var hits [16]int32
	for _, i := range m.candidates(line, hits[:0]) {
		if match, ok := c.try(m.rules[i], line); ok {
			return match, true
		}
	}
	return Match{}, false
}

func (c *Catalogue) try(r *rule, line string) (Match, bool) {
	r.compile()
	at := r.pattern.FindStringSubmatchIndex(line)
	if at == nil {
		return Match{}, false
	}
	name, toward := r.reason.Expand(line, at), r.CountsToward
	if toward != "" && c.Off(toward) {
		toward = ""
	}
	if c.Off(name) {
		if toward == "" {
			return Match{}, false
		}
		return c.match(toward, "", line, &rule{})
	}
	match, ok := c.match(name, clean(r.subject.Expand(line, at), maxSubject), line, r)
	match.CountsToward = toward
	return match, ok
}

func (c *Catalogue) match(name, subject, line string, r *rule) (Match, bool) {
	reason, ok := c.Reason(name)
	if !ok {
		return Match{}, false
	}
	return Match{
		Reason: name, Subject: subject, Category: reason.Category, Severity: alone(reason, r.Severity), Given: r.Severity,
		Recovers: r.Recovers, Echo: r.Echo, Message: clean(line, maxMessage),
	}, true
}

// alone is the severity of a single sighting.
func alone(reason health.Reason, ofRule v1alpha1.Severity) v1alpha1.Severity {
	fatal := reason.Severity == v1alpha1.SeverityFatal || reason.FatalFrom != nil && reason.FatalFrom.AtOnce()
	if ofRule != "" {
		fatal = ofRule == v1alpha1.SeverityFatal
	}
	if fatal && reason.Confirm.AtOnce() && !reason.OfNodeFilesystem {
		return v1alpha1.SeverityFatal
	}
	return v1alpha1.SeverityWarning
}

// rule is a line rule, compiled when a line first asks for it: a node meets few of them in its life.
type rule struct {
	health.LineRule
	once            sync.Once
	pattern         *regexp.Regexp
	reason, subject notation.Template
}

// compile cannot fail: the generator, or read for a person's own, has compiled it before.
func (r *rule) compile() {
	r.once.Do(func() {
		r.pattern = regexp.MustCompile(r.Pattern)
		r.reason = mustParse(r.Reason, r.pattern)
		r.subject = mustParse(r.Subject, r.pattern)
	})
}

func mustParse(s string, pattern *regexp.Regexp) notation.Template {
	t, err := notation.ParseTemplate(s, pattern)
	if err != nil {
		panic(fmt.Sprintf("rule %s: %v", pattern, err))
	}
	return t
}
