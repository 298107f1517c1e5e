package main

import (
	"bytes"
	"fmt"
	"go/format"
	"strings"
	"time"
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
		fmt.Fprintf(b, "FatalFrom: &%s,\n", r.fatalFrom.code())
	}
	fmt.Fprintf(b, "Sources: %#v,\n", r.Sources)
	if r.confirm != (confirm{}) {
		fmt.Fprintf(b, "Confirm: %s,\n", r.confirm.code())
	}
	by := map[string]string{"poll": "Poll", "pair": "Pair", "quiet": "Quiet", "boot": "Boot"}[r.clears.By]
	fmt.Fprintf(b, "Clears: Clears{By: ClearsBy%s", by)
	if r.clears.Quiet > 0 {
		fmt.Fprintf(b, ", Quiet: %d /* %s */", r.clears.Quiet, short(r.clears.Quiet))
	}
	fmt.Fprintf(b, "},\nAction: v1alpha1.Action%s,\n", r.Action)
	if r.RebootMayCure {
		b.WriteString("RebootMayCure: true,\n")
	}
	fmt.Fprintf(b, "Explanation: %q,\nRemedy: %q,\nThreshold: %q,\n},\n", r.Explanation, r.Remedy, r.Threshold)
}

func (c confirm) code() string {
	var parts []string
	add := func(name string, d time.Duration) {
		if d > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d /* %s */", name, d, short(d)))
		}
	}
	add("For", c.For)
	if c.Count > 0 {
		parts = append(parts, fmt.Sprintf("Count: %d", c.Count))
	}
	add("Within", c.Within)
	return "Confirm{" + strings.Join(parts, ", ") + "}"
}

func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
