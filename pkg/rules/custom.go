package rules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health/notation"
)

// Bounds of what a person can add, so that a configuration cannot make the agent large or slow.
const (
	maxRules   = 256
	maxReasons = 512
	// defaultQuiet ends a finding of a new reason, as it does most of the catalogue's.
	defaultQuiet = 15 * time.Minute
)

// Custom is what a person changes in the catalogue. The zero value changes nothing.
type Custom struct {
	// Rules for log lines, tried before those of the project, in this order; 256 at most.
	Rules []Rule `json:"rules,omitempty" yaml:"rules,omitempty"`
	// Reasons to change, by name; of a family the name of one (NvidiaXID79Error) or of all (NvidiaXID<n>Error).
	Reasons map[string]Override `json:"reasons,omitempty" yaml:"reasons,omitempty"`
}

// Override changes a reason of the project; what is empty stays as it is.
type Override struct {
	// Disabled switches the reason off: it is never found. (It is not called off, which YAML takes for a truth value.)
	Disabled bool `json:"disabled,omitempty" yaml:"disabled,omitempty"`
	// Severity is Fatal or Warning. Warning also drops fatalFrom, unless that is given too.
	Severity v1alpha1.Severity `json:"severity,omitempty" yaml:"severity,omitempty"`
	// Confirm is how long or how often before it counts: 10s, 1, 3 in 10m, 2 polls.
	Confirm string `json:"confirm,omitempty" yaml:"confirm,omitempty"`
	// FatalFrom is how often a Warning must be seen to become Fatal, N in DURATION; never: it never does.
	FatalFrom string `json:"fatalFrom,omitempty" yaml:"fatalFrom,omitempty"`
	// Clears is what ends it: poll, boot, pair, quiet 15m, or pair, quiet 15m.
	Clears string `json:"clears,omitempty" yaml:"clears,omitempty"`
}

// Rule is a person's own rule for log lines. Its reason is one of the project's, or a new one: then the rule, or one
// before it, says category, severity, confirm, fatalFrom, clears and explanation.
type Rule struct {
	// Reason of the finding: one of the project, or a new word in CamelCase.
	Reason string `json:"reason" yaml:"reason"`
	// Category of a new reason.
	Category v1alpha1.Category `json:"category,omitempty" yaml:"category,omitempty"`
	// Severity is Fatal or Warning; of a new reason Warning where it is empty, of the project's the reason's own.
	Severity v1alpha1.Severity `json:"severity,omitempty" yaml:"severity,omitempty"`
	// Confirm of a new reason, as in Override; empty: 1.
	Confirm string `json:"confirm,omitempty" yaml:"confirm,omitempty"`
	// FatalFrom of a new reason, as in Override; empty: never.
	FatalFrom string `json:"fatalFrom,omitempty" yaml:"fatalFrom,omitempty"`
	// Clears of a new reason, as in Override; empty: quiet 15m.
	Clears string `json:"clears,omitempty" yaml:"clears,omitempty"`
	// Explanation of a new reason, one sentence for people.
	Explanation string `json:"explanation,omitempty" yaml:"explanation,omitempty"`
	// The rest is as health.LineRule says.
	Stream        health.Stream `json:"stream" yaml:"stream"`
	Pattern       string        `json:"pattern" yaml:"pattern"`
	Subject       string        `json:"subject,omitempty" yaml:"subject,omitempty"`
	Recovers      bool          `json:"recovers,omitempty" yaml:"recovers,omitempty"`
	CountsToward  string        `json:"countsToward,omitempty" yaml:"countsToward,omitempty"`
	Sample        string        `json:"sample" yaml:"sample"`
	CounterSample string        `json:"counterSample" yaml:"counterSample"`
}

// Problem is one thing that is wrong with a Custom, and where: rules[2].pattern, reasons.SoftLockup.severity.
type Problem struct {
	Path string
	Err  error
}

func (p Problem) Error() string { return p.Path + ": " + p.Err.Error() }

// Unwrap gives what is wrong.
func (p Problem) Unwrap() error { return p.Err }

// Problems takes the error of New apart.
func Problems(err error) []Problem {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil
	}
	var out []Problem
	for _, e := range joined.Unwrap() {
		var p Problem
		if errors.As(e, &p) {
			out = append(out, p)
		}
	}
	return out
}

// problems gathers what is wrong.
type problems []error

func (p *problems) add(path, field string, err error) {
	if err != nil {
		*p = append(*p, Problem{Path: path + "." + field, Err: err})
	}
}

// override is an Override, read.
type override struct {
	off       bool
	severity  v1alpha1.Severity
	confirm   *health.Confirm
	fatalFrom *health.Confirm
	never     bool
	clears    *health.Clears
}

func (o override) apply(r health.Reason) health.Reason {
	if o.severity != "" {
		r.Severity = o.severity
	}
	if o.never || o.severity != "" {
		r.FatalFrom = nil
	}
	if o.fatalFrom != nil {
		r.FatalFrom = o.fatalFrom
	}
	if o.confirm != nil {
		r.Confirm = *o.confirm
	}
	if o.clears != nil {
		r.Clears = *o.clears
	}
	return r
}

// never is what a person writes for a Warning that does not become Fatal.
const never = "never"

func (p *problems) override(path string, o Override) override {
	out := override{off: o.Disabled, severity: o.Severity, never: o.FatalFrom == never}
	p.add(path, "severity", checkSeverity(o.Severity))
	if o.Confirm != "" {
		confirm, err := notation.ParseConfirm(o.Confirm)
		p.add(path, "confirm", err)
		out.confirm = &confirm
	}
	if o.FatalFrom != "" && !out.never {
		fatalFrom, err := notation.ParseConfirm(o.FatalFrom)
		if err == nil && fatalFrom.Count == 0 {
			err = fmt.Errorf("%q: write how often, for example 5 in 10m, or never", o.FatalFrom)
		}
		p.add(path, "fatalFrom", err)
		out.fatalFrom = &fatalFrom
		if o.Severity == v1alpha1.SeverityFatal {
			p.add(path, "fatalFrom", errors.New("leave it out: with severity Fatal it is Fatal from the first"))
		}
	}
	if o.Clears != "" {
		clears, err := notation.ParseClears(o.Clears)
		p.add(path, "clears", err)
		out.clears = &clears
	}
	return out
}

func checkSeverity(s v1alpha1.Severity) error {
	if s == "" || s == v1alpha1.SeverityFatal || s == v1alpha1.SeverityWarning {
		return nil
	}
	return fmt.Errorf("%q: write Fatal or Warning", s)
}

// read takes a Custom into the catalogue, and gives its rules by stream.
func (c *Catalogue) read(custom Custom) (map[health.Stream][]*rule, error) {
	var p problems
	if len(custom.Rules) > maxRules {
		return nil, errors.Join(Problem{Path: "rules", Err: fmt.Errorf("%d rules: write %d at most", len(custom.Rules), maxRules)})
	}
	if len(custom.Reasons) > maxReasons {
		return nil, errors.Join(Problem{Path: "reasons", Err: fmt.Errorf("%d reasons: write %d at most", len(custom.Reasons), maxReasons)})
	}
	out := map[health.Stream][]*rule{}
	for i, r := range custom.Rules {
		path := fmt.Sprintf("rules[%d]", i)
		c.readReason(&p, path, r)
		c.readLine(&p, path, r)
		line := r.line()
		if own, ok := c.own[r.Reason]; ok && own.Severity == r.Severity {
			line.Severity = "" // so that an override of the reason holds
		}
		out[r.Stream] = append(out[r.Stream], &rule{LineRule: line})
	}
	for i, r := range custom.Rules {
		if r.CountsToward == "" {
			continue
		}
		if !c.knows(r.CountsToward) || r.CountsToward == r.Reason {
			p.add(fmt.Sprintf("rules[%d]", i), "countsToward", fmt.Errorf("%q: write another reason of `agent rules` or of your own", r.CountsToward))
		}
	}
	for _, name := range sortedKeys(custom.Reasons) {
		if !c.has(name) {
			p = append(p, Problem{Path: "reasons." + name, Err: errors.New("is no reason: write one that `agent rules` lists or that a rule of yours makes")})
		}
		c.overrides[name] = p.override("reasons."+name, custom.Reasons[name])
	}
	return out, errors.Join(p...)
}

func sortedKeys(m map[string]Override) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// knows says whether findings can have the reason.
func (c *Catalogue) knows(name string) bool {
	_, own := c.own[name]
	_, known := health.Lookup(name)
	return own || known
}

// has says whether name is a reason, or the name of a family.
func (c *Catalogue) has(name string) bool {
	return c.knows(name) || slices.ContainsFunc(health.Reasons, func(r health.Reason) bool { return r.Name == name })
}

func (r Rule) line() health.LineRule {
	return health.LineRule{
		Reason: r.Reason, Stream: r.Stream, Pattern: r.Pattern, Subject: r.Subject, Severity: r.Severity, Recovers: r.Recovers,
		CountsToward: r.CountsToward, Sample: r.Sample, CounterSample: r.CounterSample,
	}
}

func (c *Catalogue) readLine(p *problems, path string, r Rule) {
	if !slices.Contains(health.Streams, r.Stream) {
		p.add(path, "stream", fmt.Errorf("%q: write one of %s", r.Stream, streamNames()))
	}
	if r.Recovers && r.CountsToward != "" {
		p.add(path, "countsToward", errors.New("leave it out: a line that ends a finding counts for nothing"))
	}
	_, wrong := notation.Line{Pattern: r.Pattern, Subject: r.Subject, Sample: r.Sample, CounterSample: r.CounterSample}.Check()
	for _, w := range wrong {
		p.add(path, w.Field, w.Err)
	}
	if texts, _ := literals(r.Pattern); texts == nil && len(wrong) == 0 {
		p.add(path, "pattern", fmt.Errorf("every line would be tried against it: write at least %d characters that each of its lines has", minLiteral))
	}
}

// streamNames for a sentence.
func streamNames() string {
	names := make([]string, 0, len(health.Streams))
	for _, s := range health.Streams {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

var ownReason = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,127}$`)

// readReason takes the reason of a rule: one that is known, or a new one.
func (c *Catalogue) readReason(p *problems, path string, r Rule) {
	p.add(path, "severity", checkSeverity(r.Severity))
	if c.knows(r.Reason) {
		for field, value := range map[string]string{"category": string(r.Category), "confirm": r.Confirm, "fatalFrom": r.FatalFrom, "clears": r.Clears} {
			if value != "" {
				p.add(path, field, fmt.Errorf("leave it out: %s has one already; to change it write it below reasons", r.Reason))
			}
		}
		return
	}
	if !ownReason.MatchString(r.Reason) {
		p.add(path, "reason", fmt.Errorf("%q: write one word in CamelCase, for example DiskOnFire", r.Reason))
		return
	}
	if !slices.Contains(health.Categories, r.Category) {
		p.add(path, "category", fmt.Errorf("%q: write one of %s", r.Category, categoryNames()))
	}
	c.ownNames = append(c.ownNames, r.Reason)
	own := p.override(path, Override{Confirm: r.Confirm, FatalFrom: r.FatalFrom, Clears: r.Clears}).apply(health.Reason{
		Name: r.Reason, Category: r.Category, Severity: orWarning(r.Severity), Sources: []string{r.Stream.Source()},
		Confirm: health.Confirm{Count: 1}, Clears: health.Clears{By: health.ClearsByQuiet, Quiet: defaultQuiet},
		Action: v1alpha1.ActionNone, Explanation: r.Explanation, Sample: r.Sample,
	})
	if own.Severity == v1alpha1.SeverityFatal || own.FatalFrom != nil {
		own.Action = v1alpha1.ActionReplace // the default policy goes by category
	}
	c.own[r.Reason] = own
}

func categoryNames() string {
	names := make([]string, 0, len(health.Categories))
	for _, category := range health.Categories {
		names = append(names, string(category))
	}
	return strings.Join(names, ", ")
}

func orWarning(s v1alpha1.Severity) v1alpha1.Severity {
	if s == "" {
		return v1alpha1.SeverityWarning
	}
	return s
}
