package main

import (
	"bytes"
	"fmt"
	"go/format"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health/notation"
)

const header = "generated from reasons.yaml by `go generate ./pkg/health`. DO NOT EDIT."

func goSource(c catalogue) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code %s\n\npackage health\n\nimport \"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1\"\n\n", header)
	b.WriteString("// Reasons of findings, as reasons.yaml explains them.\nconst (\n")
	for _, r := range c.reasons {
		if r.Pattern == "" {
			fmt.Fprintf(&b, "\tReason%s = %q\n", r.Name, r.Name)
		}
	}
	b.WriteString(")\n\n// Reasons is the whole catalogue, in the order of reasons.yaml.\nvar Reasons = []Reason{\n")
	for _, r := range c.reasons {
		writeReason(&b, r)
	}
	b.WriteString("}\n")
	out, err := format.Source(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("formatting the generated source, %w", err)
	}
	return out, nil
}

func writeReason(b *bytes.Buffer, r reason) {
	b.WriteString("{\n")
	if r.Pattern == "" {
		fmt.Fprintf(b, "Name: Reason%s,\n", r.Name)
	} else {
		fmt.Fprintf(b, "Name: %q,\nPattern: %q,\nExample: %q,\n", r.Name, r.Pattern, r.Example)
	}
	fmt.Fprintf(b, "Category: v1alpha1.Category%s,\nSeverity: v1alpha1.Severity%s,\n", r.Category, r.Severity)
	if r.fatalFrom != nil {
		fmt.Fprintf(b, "FatalFrom: &%s,\n", confirmCode(*r.fatalFrom))
	}
	if r.OfNodeFilesystem {
		b.WriteString("OfNodeFilesystem: true,\n")
	}
	fmt.Fprintf(b, "Sources: %#v,\n", r.Sources)
	if r.confirm != (notation.Confirm{}) {
		fmt.Fprintf(b, "Confirm: %s,\n", confirmCode(r.confirm))
	}
	by := map[notation.ClearsBy]string{"poll": "Poll", "pair": "Pair", "quiet": "Quiet", "boot": "Boot"}[r.clears.By]
	fmt.Fprintf(b, "Clears: Clears{By: ClearsBy%s", by)
	if r.clears.Quiet > 0 {
		fmt.Fprintf(b, ", Quiet: %d /* %s */", r.clears.Quiet, notation.Short(r.clears.Quiet))
	}
	fmt.Fprintf(b, "},\nAction: v1alpha1.Action%s,\n", r.Action)
	if r.RebootMayCure {
		b.WriteString("RebootMayCure: true,\n")
	}
	fmt.Fprintf(b, "Sample: %q,\n", r.sample())
	fmt.Fprintf(b, "Explanation: %q,\nRemedy: %q,\nThreshold: %q,\n},\n", r.Explanation, r.Remedy, r.Threshold)
}

func confirmCode(c notation.Confirm) string {
	var parts []string
	add := func(name string, d time.Duration) {
		if d > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d /* %s */", name, d, notation.Short(d)))
		}
	}
	add("For", c.For)
	if c.Count > 0 {
		parts = append(parts, fmt.Sprintf("Count: %d", c.Count))
	}
	add("Within", c.Within)
	return "Confirm{" + strings.Join(parts, ", ") + "}"
}

func linesSource(c catalogue) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code %s\n\npackage health\n\n", header)
	if slices.ContainsFunc(c.reasons, func(r reason) bool {
		return slices.ContainsFunc(r.Lines, func(l line) bool { return l.Severity != "" })
	}) {
		b.WriteString("import \"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1\"\n\n")
	}
	b.WriteString("// LineRules are the rules for log lines, in the order of reasons.yaml: of several that match, the first counts.\nvar LineRules = []LineRule{\n")
	for _, r := range c.reasons {
		for _, l := range r.Lines {
			writeLine(&b, r, l)
		}
	}
	b.WriteString("}\n")
	out, err := format.Source(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("formatting the generated rules, %w", err)
	}
	return out, nil
}

func writeLine(b *bytes.Buffer, r reason, l line) {
	if r.Pattern == "" {
		fmt.Fprintf(b, "{\nReason: Reason%s,\n", r.Name)
	} else {
		fmt.Fprintf(b, "{\nReason: %q,\n", l.Reason)
	}
	fmt.Fprintf(b, "Stream: %q,\nPattern: %s,\n", l.Stream, quote(l.Pattern))
	if l.Subject != "" {
		fmt.Fprintf(b, "Subject: %q,\n", l.Subject)
	}
	if l.Severity != "" {
		fmt.Fprintf(b, "Severity: v1alpha1.Severity%s,\n", l.Severity)
	}
	if l.CountsToward != "" {
		fmt.Fprintf(b, "CountsToward: Reason%s,\n", l.CountsToward)
	}
	for name, set := range map[string]bool{"Recovers": l.Recovers, "Echo": l.Echo} { // at most one of them is set
		if set {
			fmt.Fprintf(b, "%s: true,\n", name)
		}
	}
	fmt.Fprintf(b, "Sample: %s,\nCounterSample: %s,\n},\n", quote(l.Sample), quote(l.CounterSample))
}

// quote writes a string as people read regular expressions best.
func quote(s string) string {
	if strconv.CanBackquote(s) {
		return "`" + s + "`"
	}
	return strconv.Quote(s)
}
