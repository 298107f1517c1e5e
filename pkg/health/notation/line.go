package notation

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxPattern bounds what a regular expression of a rule may take to compile and to keep.
const maxPattern = 2048

// Line is what must agree within a rule for log lines.
type Line struct {
	Pattern string
	// Reason and Subject may hold ${name}, which stands for what the group of that name matched.
	Reason  string
	Subject string
	Sample  string
	// CounterSample looks like Sample and must not match.
	CounterSample string
}

// Problem is what is wrong with one field, named as in the file.
type Problem struct {
	Field string
	Err   error
}

func (p Problem) Error() string { return p.Field + ": " + p.Err.Error() }

// Unwrap gives what is wrong.
func (p Problem) Unwrap() error { return p.Err }

// Check gives everything that is wrong with the rule, and the compiled pattern where that can be had.
func (l Line) Check() (*regexp.Regexp, []Problem) {
	if l.Pattern == "" || len(l.Pattern) > maxPattern {
		return nil, []Problem{{"pattern", fmt.Errorf("write a regular expression of 1 to %d bytes", maxPattern)}}
	}
	pattern, err := regexp.Compile(l.Pattern)
	if err != nil {
		return nil, []Problem{{"pattern", fmt.Errorf("write a regular expression as RE2 has it, %w", err)}}
	}
	var problems []Problem
	add := func(field string, err error) {
		if err != nil {
			problems = append(problems, Problem{field, err})
		}
	}
	if pattern.MatchString("") {
		add("pattern", errors.New("matches every line: write words that only this fault has"))
	}
	add("reason", second(ParseTemplate(l.Reason, pattern)))
	add("subject", second(ParseTemplate(l.Subject, pattern)))
	add("sample", l.checkSample(pattern))
	switch {
	case l.CounterSample == "":
		add("counterSample", errors.New("write a line that looks alike and must not match"))
	case pattern.MatchString(l.CounterSample):
		add("counterSample", errors.New("matches the pattern: write a line that looks alike and must not match, or narrow the pattern"))
	}
	return pattern, problems
}

func (l Line) checkSample(pattern *regexp.Regexp) error {
	switch {
	case l.Sample == "":
		return errors.New("write a line that must match")
	case strings.ContainsAny(l.Sample, "\r\n"):
		return errors.New("write one line")
	case !pattern.MatchString(l.Sample):
		return errors.New("does not match the pattern: write a line that does, or change the pattern")
	}
	return nil
}

func second(_ Template, err error) error { return err }

// Template is text in which ${name} stands for a group of a pattern.
type Template struct {
	text  string // what stands before the group
	group int    // -1: no group follows
	rest  *Template
}

// ParseTemplate reads s, whose groups must be those of pattern.
func ParseTemplate(s string, pattern *regexp.Regexp) (Template, error) {
	before, after, found := strings.Cut(s, "${")
	if !found {
		return Template{text: s, group: -1}, nil
	}
	name, after, closed := strings.Cut(after, "}")
	group := pattern.SubexpIndex(name)
	if !closed || group < 0 {
		return Template{}, fmt.Errorf("${%s: the pattern has no group (?P<%s>...): write ${NAME} with the name of a group of the pattern", name, name)
	}
	rest, err := ParseTemplate(after, pattern)
	return Template{text: before, group: group, rest: &rest}, err
}

// Fixed says whether the text does not depend on a line.
func (t Template) Fixed() bool { return t.group < 0 }

// Expand gives the text for a match, as regexp's FindStringSubmatchIndex gave it.
func (t Template) Expand(line string, match []int) string {
	if t.Fixed() {
		return t.text
	}
	group := ""
	if from := match[2*t.group]; from >= 0 {
		group = line[from:match[2*t.group+1]]
	}
	return t.text + group + t.rest.Expand(line, match)
}
