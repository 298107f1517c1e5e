package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/samber/lo"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/explain"
)

// explanationView shows an Explanation; json and yaml are the Explanation itself.
type explanationView struct {
	explain.Explanation
	width int
}

// Sections go from what is the matter to what has been.
func (v explanationView) Sections(wide bool) []Section {
	out := []Section{{Lines: v.head()}}
	add := func(title string, lines []string) {
		if len(lines) > 0 {
			out = append(out, Section{Title: title, Lines: lines})
		}
	}
	add("FINDINGS", v.findings(wide))
	add("CONDITIONS", v.facts())
	add("WATCHED BY", v.sources(wide))
	add("POLICY", v.policy())
	add("IN THE WAY", v.blockers())
	add("REPAIR", v.repair())
	add("NEXT", v.moments(v.Next))
	add("SO FAR", v.moments(v.Timeline))
	add("ON THE NODECLAIM", v.written(wide))
	return out
}

func (v explanationView) now() time.Time { return v.Time.Time }

func (v explanationView) head() []string {
	place := strings.Join(lo.Compact([]string{v.Zone, v.InstanceType, v.CapacityType, v.Image}), ", ")
	rows := [][]string{
		{"Node", cmp.Or(v.Node, "<none>")},
		{"NodeClaim", v.NodeClaim},
		{"NodePool", cmp.Or(v.NodePool, "<none>")},
	}
	if place != "" {
		rows = append(rows, []string{"Kind", place})
	}
	rows = append(rows, []string{"State", string(v.State)})
	return append(aligned(rows, 0, v.width), append([]string{""}, wrap(v.Summary, "", 0, v.width)...)...)
}

func (v explanationView) findings(wide bool) []string {
	var lines []string
	for _, f := range v.Explanation.Findings {
		seen := fmt.Sprintf("%s  %s, by %s, for %s", diagnosis.Title(f.Finding), f.Severity, f.Source, age(v.now(), f.Since.Time))
		if f.Count > 1 {
			seen += fmt.Sprintf(", seen %d times", f.Count)
		}
		if f.LastObserved != nil {
			seen += fmt.Sprintf(", last %s ago", age(v.now(), f.LastObserved.Time))
		}
		lines = append(lines, seen)
		rows := [][]string{}
		row := func(name, text string) {
			if text != "" {
				rows = append(rows, []string{name, text})
			}
		}
		row("says", f.Message)
		for _, evidence := range f.Evidence {
			row("evidence", evidence)
		}
		row("policy", v.judged(f))
		if wide {
			row("means", f.Explanation)
			row("remedy", f.Remedy)
		}
		lines = append(lines, aligned(rows, 2, v.width)...)
	}
	return lines
}

// judged says what the policy makes of a finding.
func (v explanationView) judged(f explain.ExplainedFinding) string {
	switch {
	case !f.Trusted:
		return "none looks at it: its source can see no more, and this is what it said last"
	case f.Severity != v1alpha1.SeverityFatal:
		return "" // Warnings are only shown
	case f.Rule == "":
		return "no rule matches"
	case f.Action == v1alpha1.ActionNone:
		return fmt.Sprintf("rule %q: only shown (action: None)", f.Rule)
	}
	said := fmt.Sprintf("rule %q: %s", f.Rule, f.Action)
	if f.ToleratedUntil != nil {
		said += ", tolerated until " + v.when(f.ToleratedUntil.Time)
	}
	if f.Decides {
		said += "; the decision rests on it"
	}
	return said
}

// when gives a moment and how far it is.
func (v explanationView) when(at time.Time) string {
	return fmt.Sprintf("%s (%s)", stamp(at), distance(v.now(), at))
}

// distance says how far a moment is from now: "5m ago", "in 5m".
func distance(now, at time.Time) string {
	switch d := at.Sub(now); {
	case d >= time.Second:
		return "in " + duration.HumanDuration(d)
	case d > -time.Second:
		return "now"
	default:
		return duration.HumanDuration(-d) + " ago"
	}
}

func (v explanationView) facts() []string {
	var rows [][]string
	for _, f := range v.Facts {
		rows = append(rows, []string{strings.TrimPrefix(f.Type, v1alpha1.Group+"/"), string(f.Status), f.Reason, f.Message})
	}
	return aligned(rows, 0, v.width)
}

func (v explanationView) sources(wide bool) []string {
	var rows [][]string
	for _, s := range v.Explanation.Sources {
		if !wide && s.State == string(v1alpha1.SourceActive) {
			continue
		}
		heard := ""
		if s.LastHeartbeat != nil {
			heard = "heard of " + distance(v.now(), s.LastHeartbeat.Time)
		}
		rows = append(rows, []string{s.Name, s.State, strings.Join(lo.Compact([]string{heard, s.Message}), "; ")})
	}
	return aligned(rows, 0, v.width)
}

func (v explanationView) policy() []string {
	p := v.Policy
	switch {
	case p == nil:
		return wrap("no RepairPolicy selects the NodeClaim", "", 0, v.width)
	case len(p.Conflict) > 0:
		return wrap("the RepairPolicies "+strings.Join(p.Conflict, ", ")+" have equal weight, so none governs", "", 0, v.width)
	}
	rows := [][]string{{"RepairPolicy", fmt.Sprintf("%s (mode %s, weight %d)", p.Name, p.Mode, p.Weight)}}
	switch {
	case p.Invalid != "":
		rows = append(rows, []string{"cannot be used", p.Invalid})
	case p.Rule != "" && p.Tolerate == "":
		rows = append(rows, []string{"rule", "none: a person asked for the repair"})
	case p.Rule != "":
		rows = append(rows, []string{"rule", fmt.Sprintf("%s (tolerates %s, priority %d)", p.Rule, p.Tolerate, p.Priority)})
	}
	if d := v.Decision; d != nil && d.Action != "" && v.Repair == nil {
		rows = append(rows, []string{"would", would(d)})
		if d.Note != "" {
			rows = append(rows, []string{"note", d.Note})
		}
	}
	return aligned(rows, 0, v.width)
}

// would says what the repair is.
func would(d *explain.ExplainedDecision) string {
	said := string(d.Action)
	if d.TerminateFirst {
		said += ", terminating the node first"
	}
	bound := "pods may hold up the drain without end"
	if d.DrainBound != nil {
		bound = "pods may hold up the drain for " + d.DrainBound.Duration.String()
	}
	return fmt.Sprintf("%s; %s of its pods have to move; %s", said, fmt.Sprint(d.ReschedulablePods), bound)
}

func (v explanationView) blockers() []string {
	var lines []string
	for _, group := range grouped(v.Explanation.Blockers) {
		lines = append(lines, group[0].Reason)
		lines = append(lines, aligned(blockerRows(group, v.when), 2, v.width)...)
	}
	return lines
}

// grouped puts blockers that follow each other and are lifted in the same way together.
func grouped(blockers []explain.ExplainedBlocker) [][]explain.ExplainedBlocker {
	var out [][]explain.ExplainedBlocker
	for _, b := range blockers {
		if n := len(out); n > 0 && liftedAlike(out[n-1][0], b) {
			out[n-1] = append(out[n-1], b)
			continue
		}
		out = append(out, []explain.ExplainedBlocker{b})
	}
	return out
}

func liftedAlike(a, b explain.ExplainedBlocker) bool {
	return a.Reason == b.Reason && a.Who == b.Who && a.How == b.How && a.At.Equal(b.At)
}

// blockerRows say why, who can lift it, how, and when it is looked at again.
func blockerRows(group []explain.ExplainedBlocker, when func(time.Time) string) [][]string {
	var rows [][]string
	for i, b := range group {
		rows = append(rows, []string{[]string{"why", "and"}[min(i, 1)], b.Message})
	}
	rows = append(rows, []string{"lifted by", group[0].Who})
	if group[0].How != "" {
		rows = append(rows, []string{"how", group[0].How})
	}
	if group[0].At != nil {
		rows = append(rows, []string{"at", when(group[0].At.Time)})
	}
	return rows
}

func (v explanationView) repair() []string {
	r := v.Repair
	if r == nil {
		return nil
	}
	rows := [][]string{
		{"NodeRepair", r.Name},
		{"action", string(r.Action)},
		{"phase", fmt.Sprintf("%s (began %s ago)", r.Phase, age(v.now(), r.Started.Time))},
		{"now", r.Message},
	}
	if r.Replacement != "" {
		rows = append(rows, []string{"replacement", "NodeClaim " + r.Replacement})
	}
	return aligned(rows, 0, v.width)
}

func (v explanationView) moments(moments []explain.Moment) []string {
	repairs := slices.ContainsFunc(moments, func(m explain.Moment) bool { return m.Repair != "" })
	var rows [][]string
	for _, m := range moments {
		row := []string{stamp(m.At.Time), distance(v.now(), m.At.Time)}
		if repairs {
			row = append(row, cmp.Or(m.Repair, "-"))
		}
		rows = append(rows, append(row, m.What))
	}
	return aligned(rows, 0, v.width)
}

func (v explanationView) written(wide bool) []string {
	w := v.Written
	since := ""
	if w.At != nil {
		since = fmt.Sprintf(" (written last at %s, %s)", stamp(w.At.Time), distance(v.now(), w.At.Time))
	}
	var lines []string
	switch w.State {
	case explain.WrittenCurrent:
		lines = wrap("The conditions of the NodeClaim say what is said here"+since+".", "", 0, v.width)
	case explain.WrittenNothing:
		lines = wrap("The NodeClaim says nothing of this.", "", 0, v.width)
	case explain.WrittenDiffers:
		lines = wrap("The conditions of the NodeClaim say something else"+since+":", "", 0, v.width)
		lines = append(lines, aligned(differenceRows(w.Differences, wide), 2, v.width)...)
	}
	lines = append(lines, wrap(sentence(w.Controller), "", 0, v.width)...)
	if w.Advice != "" {
		lines = append(lines, wrap(w.Advice, "", 0, v.width)...)
	}
	return lines
}

func differenceRows(differences []explain.Difference, wide bool) [][]string {
	stated := func(s *explain.Stated) string {
		if s == nil {
			return "<absent>"
		}
		if wide {
			return fmt.Sprintf("%s %s: %s", s.Status, s.Reason, strings.ReplaceAll(s.Message, "\n", "; "))
		}
		return fmt.Sprintf("%s %s", s.Status, s.Reason)
	}
	var rows [][]string
	for _, d := range differences {
		text := fmt.Sprintf("%s, and now holds %s", stated(d.Written), stated(d.Now))
		if d.Written != nil && d.Now != nil && d.Written.Status == d.Now.Status && d.Written.Reason == d.Now.Reason && !wide {
			text = stated(d.Written) + ", in other words (see -o wide)"
		}
		rows = append(rows, []string{strings.TrimPrefix(d.Type, v1alpha1.Group+"/"), text})
	}
	return rows
}

// sentence begins with a capital and ends with a full stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
