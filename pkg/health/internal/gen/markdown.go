package main

import (
	"bytes"
	"fmt"
	"strings"
)

func markdown(c catalogue) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- %s%s -->\n# Reasons\n\n", strings.ToUpper(header[:1]), header[1:])
	b.WriteString("What a finding can say of a node, by category.\n\n" +
		"- **Severity**: Fatal makes the category's condition on the NodeClaim False and may lead to a repair; Warning is only shown.\n" +
		"- **Default** is what the default RepairPolicy does once the finding is Fatal and has stood for the category's time.\n" +
		"- **Counts after** is what it takes to be believed, **ends** what ends it, **numbers from** where its limits come from.\n" +
		"- **For example** is what fires it: a log line as it is, or a sentence.\n")
	for _, k := range c.categories {
		fmt.Fprintf(&b, "\n## %s\n\n%s", k.Name, k.Explanation)
		if k.Tolerate != "" {
			fmt.Fprintf(&b, " Tolerated for %s by default (%s).", k.Tolerate, k.Threshold)
		}
		b.WriteString("\n\n| Reason | Severity | What it means | What to do | Default | Counts after | Ends | Seen by | Numbers from | For example |\n" +
			"|---|---|---|---|---|---|---|---|---|---|\n")
		for _, r := range c.reasons {
			if r.Category == k.Name {
				writeRow(&b, r)
			}
		}
	}
	return b.Bytes()
}

func writeRow(b *bytes.Buffer, r reason) {
	for _, text := range []string{
		title(r), severity(r), r.Explanation, r.Remedy, action(r), r.entry.Confirm, r.entry.Clears, strings.Join(r.Sources, ", "), r.Threshold, code(r.sample()),
	} {
		fmt.Fprintf(b, "| %s ", strings.ReplaceAll(text, "|", "\\|"))
	}
	b.WriteString("|\n")
}

// code shows text as it is, whatever marks it holds.
func code(text string) string {
	fence := "`"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	if len(fence) > 1 {
		return fence + " " + text + " " + fence
	}
	return fence + text + fence
}

func title(r reason) string {
	if r.Pattern == "" {
		return "`" + r.Name + "`"
	}
	return "`" + r.Pattern + "`"
}

func severity(r reason) string {
	if r.OfNodeFilesystem && r.FatalFrom == "" {
		return "Fatal on a filesystem of the node itself, Warning elsewhere"
	}
	if r.OfNodeFilesystem {
		return r.Severity + ", Fatal from " + r.FatalFrom + " on a filesystem of the node itself"
	}
	if r.FatalFrom != "" {
		return r.Severity + ", Fatal from " + r.FatalFrom
	}
	return r.Severity
}

func action(r reason) string {
	switch {
	case r.RebootMayCure:
		return "Replace (a reboot may cure it)"
	case r.Action == "None":
		return "–"
	default:
		return r.Action
	}
}
