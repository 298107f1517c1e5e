package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/health/notation"
)

const reasonsIntro = `
Every reason that a finding can have: what it means and what to do about it, by category. On a node, ` + "`agent rules`" + ` prints the
same, as the agent's configuration changes it. Policies match the
[reasons of other agents](policies.md#reasons-of-other-agents), and your own, in the same way.

- **Fatal** makes the category's condition on the NodeClaim False and may lead to a repair; a **Warning** is only shown.
- **By default** is what the default RepairPolicy does once the finding is Fatal.
- **Believed after** is what it takes to count, **over after** what ends it, **limits from** where its numbers come from.
`

// later are the sources that state nothing yet.
var later = []string{"nodeclaim"}

func markdown(c catalogue) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- %s%s -->\n# Reasons\n%s", strings.ToUpper(header[:1]), header[1:], reasonsIntro)
	for _, k := range c.categories {
		fmt.Fprintf(&b, "\n## %s\n\n%s", k.Name, k.Explanation)
		if k.Tolerate != "" {
			fmt.Fprintf(&b, " Tolerated for %s by default (%s).", k.Tolerate, k.Threshold)
		}
		reasons := lo.Filter(c.reasons, func(r reason, _ int) bool { return r.Category == k.Name })
		fmt.Fprintf(&b, "\n\n%s.\n", strings.Join(lo.Map(reasons, func(r reason, _ int) string {
			return fmt.Sprintf("[%s](#%s)", escape(r.Name), anchor(r.Name))
		}), ", "))
		for _, r := range reasons {
			writeSection(&b, r, k.Tolerate)
		}
	}
	return b.Bytes()
}

func writeSection(b *bytes.Buffer, r reason, tolerate string) {
	fmt.Fprintf(b, "\n### %s\n\n**%s.** %s\n\n", escape(r.Name), severity(r), r.Explanation)
	fmt.Fprintf(b, "- **What to do:** %s\n- **By default:** %s.\n", r.Remedy, byDefault(r, tolerate))
	fmt.Fprintf(b, "- **Believed after** %s, **over after** %s; seen by %s; limits from: %s.\n", believed(r.confirm, r.entry.Confirm), over(r.clears), seenBy(r), r.Threshold)
	if r.Pattern != "" {
		fmt.Fprintf(b, "- **Written as** %s, for example `%s`.\n", code(r.Pattern), r.Example)
	}
	fmt.Fprintf(b, "- **For example:** %s\n", code(r.sample()))
}

// escape keeps a heading or link from being taken for a tag.
func escape(text string) string {
	return strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(text)
}

// anchor is what the heading of a reason is linked by.
func anchor(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case strings.ContainsRune("<>()", r):
			return -1
		default:
			return r
		}
	}, strings.ToLower(name))
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

func severity(r reason) string {
	switch {
	case r.OfNodeFilesystem && r.FatalFrom == "":
		return "Fatal on a filesystem of the node itself, Warning elsewhere"
	case r.OfNodeFilesystem:
		return fmt.Sprintf("%s, Fatal after %s on a filesystem of the node itself", r.Severity, believed(*r.fatalFrom, r.FatalFrom))
	case r.FatalFrom != "":
		return fmt.Sprintf("%s, Fatal after %s", r.Severity, believed(*r.fatalFrom, r.FatalFrom))
	default:
		return r.Severity
	}
}

func byDefault(r reason, tolerate string) string {
	if r.Action == "None" {
		return "shown, and nothing else"
	}
	text := "the node is replaced"
	switch {
	case tolerate != "":
		text += ", once it has stood for " + tolerate
	case r.Category == "Request":
		text = "the node is repaired as asked, at once"
	}
	if r.RebootMayCure {
		text += "; a policy may choose Reboot, which may cure it"
	}
	return text
}

func believed(c notation.Confirm, written string) string {
	switch {
	case c.For > 0:
		return "standing for " + notation.Short(c.For)
	case c.AtOnce():
		return "being seen once"
	case c.Within > 0:
		return fmt.Sprintf("being seen %d times in %s", c.Count, notation.Short(c.Within))
	case strings.HasSuffix(written, "polls"):
		return fmt.Sprintf("%d looks in a row", c.Count)
	default:
		return fmt.Sprintf("being seen %d times", c.Count)
	}
}

func over(c notation.Clears) string {
	var by string
	switch c.By {
	case notation.ByPoll:
		by = "a look that does not find it"
	case notation.ByPair:
		by = "a line that says so"
	case notation.ByBoot:
		by = "a reboot"
	case notation.ByQuiet:
		return notation.Short(c.Quiet) + " without it"
	}
	if c.Quiet > 0 {
		by += " or " + notation.Short(c.Quiet) + " without it"
	}
	return by
}

func seenBy(r reason) string {
	text := strings.Join(r.Sources, ", ")
	if !slices.ContainsFunc(r.Sources, func(source string) bool { return !slices.Contains(later, source) }) {
		text += " (which states nothing yet)"
	}
	return text
}
