package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health/notation"
)

// line is a rule for log lines, below the reason that they mean.
type line struct {
	// Reason of a family; empty where the reason is the one that it stands below.
	Reason        string `json:"reason"`
	Stream        string `json:"stream"`
	Pattern       string `json:"pattern"`
	Subject       string `json:"subject"`
	Severity      string `json:"severity"`
	Recovers      bool   `json:"recovers"`
	CountsToward  string `json:"countsToward"`
	Echo          bool   `json:"echo"`
	Sample        string `json:"sample"`
	CounterSample string `json:"counterSample"`
}

// streams that have rules. They are not taken from pkg/health, which does not compile before its generated files are there.
var streams = []string{"kmsg", "kubelet", "containerd", "systemd", "ipamd", "kube-proxy"}

// reasonOf gives the reason, or the template for one.
func (l line) reasonOf(e entry) string {
	if l.Reason != "" {
		return l.Reason
	}
	return e.Name
}

func (l line) check(e entry) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(slices.Contains(streams, l.Stream), "stream %q: write one of %s", l.Stream, strings.Join(streams, ", "))
	check(slices.Contains([]string{"", "Fatal", "Warning"}, l.Severity), "severity %q: write Fatal, Warning, or nothing for the reason's", l.Severity)
	check(l.Severity != "Fatal" || e.Action == "Replace", "severity Fatal: the reason is never Fatal; give it an action first")
	check(!l.Recovers || l.CountsToward == "" && l.Severity == "" && !l.Echo, "recovers: a line that ends a finding has no severity, counts for nothing, and is no echo")
	check(!l.Echo || l.CountsToward == "", "echo: a line that counts for nothing does not count toward another reason")
	check((l.Reason != "") == (e.Pattern != ""), "reason: write it for a family, as Reason${n}Error, and leave it out elsewhere")
	pattern, problems := notation.Line{Pattern: l.Pattern, Reason: l.reasonOf(e), Subject: l.Subject, Sample: l.Sample, CounterSample: l.CounterSample}.Check()
	for _, p := range problems {
		errs = append(errs, p)
	}
	if len(errs) == 0 {
		errs = append(errs, l.checkReason(e, pattern))
	}
	return errors.Join(errs...)
}

// checkReason asks that what the sample makes is a reason of the entry.
func (l line) checkReason(e entry, pattern *regexp.Regexp) error {
	if e.Pattern == "" {
		return nil
	}
	template, err := notation.ParseTemplate(l.Reason, pattern)
	if err != nil {
		return fmt.Errorf("reason: %w", err)
	}
	reason := template.Expand(l.Sample, pattern.FindStringSubmatchIndex(l.Sample))
	if !regexp.MustCompile(`\A(?:` + e.Pattern + `)\z`).MatchString(reason) {
		return fmt.Errorf("reason: of the sample it is %s, which the pattern of the family does not match", reason)
	}
	return nil
}

// checkSample asks for exactly one kind of sample, so that every reason can be shown to fire.
func (e entry) checkSample() error {
	fires := slices.ContainsFunc(e.Lines, func(l line) bool { return !l.Recovers })
	switch {
	case fires && e.Sample != "":
		return errors.New("sample: leave it out, the lines have their own")
	case !fires && e.Sample == "":
		return errors.New("sample: write a sentence that says what fires it, or lines that do")
	case strings.ContainsAny(e.Sample, "\r\n"):
		return errors.New("sample: write one line")
	}
	return nil
}

// sample gives what fires the reason.
func (e entry) sample() string {
	for _, l := range e.Lines {
		if !l.Recovers {
			return l.Sample
		}
	}
	return e.Sample
}

// checkCountsToward asks that lines count toward other reasons that are there.
func (c catalogue) checkCountsToward() error {
	var errs []error
	for _, r := range c.reasons {
		for i, l := range r.Lines {
			known := slices.ContainsFunc(c.reasons, func(other reason) bool { return other.Name == l.CountsToward && other.Pattern == "" })
			if l.CountsToward != "" && (!known || l.CountsToward == r.Name) {
				errs = append(errs, fmt.Errorf("reason %s: lines[%d]: countsToward %q: write the name of another reason of the catalogue", r.Name, i, l.CountsToward))
			}
		}
	}
	return errors.Join(errs...)
}
