package cli

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/samber/lo"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// Sections tell of each repair, and sum up.
func (h *History) Sections(wide bool) []Section {
	var out []Section
	switch {
	case len(h.Repairs) == 0:
		out = append(out, Section{Lines: []string{"no repair has ended" + h.period()}})
	case h.detailed:
		for i := range h.Repairs {
			out = append(out, h.Repairs[i].section())
		}
	default:
		out = append(out, Section{Table: h.table()})
	}
	if len(h.Repairs) > 0 {
		out = append(out, Section{Title: "SUMMARY" + strings.ToUpper(h.period()), Table: h.summaryTable()})
	}
	if h.AtWork > 0 {
		out = append(out, Section{Lines: []string{fmt.Sprintf("%s at work: %s status shows them", plural(h.AtWork, "repair"), commandName)}})
	}
	return out
}

func (h *History) period() string {
	if h.Since == nil {
		return ""
	}
	return " since " + stamp(h.Since.Time)
}

func (h *History) table() *Table {
	table := &Table{Columns: []string{"Ended", "Node", "NodePool", "Cause", "Subject+", "Action", "Outcome", "Took", "Steps+", "Replacement+", "Policy+", "Evidence+", "NodeRepair+", "Message+"}}
	for i := range h.Repairs {
		r := &h.Repairs[i]
		table.Rows = append(table.Rows, []string{
			age(h.At.Time, r.Finished.Time) + " ago", cmp.Or(r.Node, r.NodeClaim), r.NodePool, r.Cause.Reason, r.Cause.Subject, r.action(), string(r.Outcome),
			length(r.Took), r.steps(), r.replacement(), r.Policy.Name, r.evidence(), r.NodeRepair, r.Message,
		})
	}
	return table
}

func (h *History) summaryTable() *Table {
	table := &Table{Columns: []string{"NodePool", "Repairs", "Succeeded", "Failed", "Canceled", "Yielded", "Success", "Until gone", "Until proved"}}
	rows := h.NodePools
	if len(rows) > 1 {
		rows = append(rows[:len(rows):len(rows)], h.Summary)
	}
	for i, o := range rows {
		name := cmp.Or(o.NodePool, "<none>")
		if i > 0 && i == len(h.NodePools) {
			name = "all"
		}
		table.Rows = append(table.Rows, []string{
			name, strconv.Itoa(o.Repairs), strconv.Itoa(o.Succeeded), strconv.Itoa(o.Failed), strconv.Itoa(o.Canceled), strconv.Itoa(o.Yielded),
			rate(o.SuccessRate), optional(o.MedianUntilGone), optional(o.MedianUntilProved),
		})
	}
	return table
}

// rate is rounded down, so that 100% means all.
func rate(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", math.Floor(*share*100))
}

func optional(d *metav1.Duration) string {
	if d == nil {
		return "-"
	}
	return length(*d)
}

func length(d metav1.Duration) string { return duration.HumanDuration(d.Round(time.Second)) }

func (r *PastRepair) action() string {
	if r.TerminateFirst {
		return string(r.Action) + " (terminate first)"
	}
	return string(r.Action)
}

func (r *PastRepair) steps() string {
	out := make([]string, 0, len(r.Steps))
	for _, step := range r.Steps {
		out = append(out, fmt.Sprintf("%s +%s", step.Name, length(step.After)))
	}
	return strings.Join(out, ", ")
}

func (r *PastRepair) replacement() string {
	if n := len(r.Replacements); n > 0 {
		return r.Replacements[n-1].NodeClaim
	}
	return ""
}

func (r *PastRepair) evidence() string {
	if r.Evidence == nil {
		return ""
	}
	return fmt.Sprintf("%s, %s", plural(len(r.Evidence.Findings), "finding"), plural(len(r.Evidence.Pods), "pod"))
}

// section tells of a repair in full.
func (r *PastRepair) section() Section {
	lines := []string{
		fmt.Sprintf("node         %s (NodeClaim %s, NodePool %s)", cmp.Or(r.Node, "<none>"), r.NodeClaim, cmp.Or(r.NodePool, "<none>")),
		fmt.Sprintf("cause        %s since %s", strings.TrimSpace(r.Cause.Reason+" "+r.Cause.Subject), stamp(r.Cause.Since.Time)),
		fmt.Sprintf("action       %s, by rule %q of RepairPolicy %q", r.action(), r.Policy.Rule, r.Policy.Name),
		fmt.Sprintf("outcome      %s after %s: %s", r.Outcome, length(r.Took), cmp.Or(r.Message, "-")),
		fmt.Sprintf("steps        decided %s", strings.Join(lo.Compact([]string{stamp(r.Started.Time), r.steps()}), ", ")),
	}
	for _, replacement := range r.Replacements {
		lines = append(lines, fmt.Sprintf("replacement  %s", describeReplacement(replacement)))
	}
	if r.Evidence != nil {
		lines = append(lines, evidenceLines(r.Evidence)...)
	}
	return Section{Title: "NODEREPAIR " + r.NodeRepair, Lines: lines}
}

func describeReplacement(replacement v1alpha1.ReplacementStatus) string {
	out := fmt.Sprintf("attempt %d: NodeClaim %s", replacement.Attempt, replacement.NodeClaim)
	if replacement.NodeName != "" {
		out += ", Node " + replacement.NodeName
	}
	switch {
	case replacement.WithdrawnAt != nil:
		out += ", withdrawn at " + stamp(replacement.WithdrawnAt.Time)
	case replacement.InitializedAt != nil:
		out += ", Initialized at " + stamp(replacement.InitializedAt.Time)
	}
	if replacement.Message != "" {
		out += ": " + replacement.Message
	}
	return out
}

// evidenceLines tell what was known about the node that is gone.
func evidenceLines(evidence *v1alpha1.RepairEvidence) []string {
	var out []string
	for _, f := range evidence.Findings {
		out = append(out, fmt.Sprintf("finding      %s (%s, %s) since %s: %s", diagnosis.Title(f), f.Severity, f.Source, stamp(f.Since.Time), f.Message))
		for _, line := range f.Evidence {
			out = append(out, "               "+line)
		}
	}
	for _, c := range evidence.NodeConditions {
		out = append(out, fmt.Sprintf("condition    %s=%s (%s): %s", c.Type, c.Status, c.Reason, c.Message))
	}
	if info := evidence.NodeInfo; info != nil {
		out = append(out, fmt.Sprintf("system       %s, kernel %s, kubelet %s, %s, boot %s", info.OSImage, info.KernelVersion, info.KubeletVersion, info.ContainerRuntimeVersion, info.BootID))
	}
	if n := len(evidence.Pods); n > 0 {
		out = append(out, fmt.Sprintf("pods         %d, of which %d had to move: %s", n, evidence.ReschedulablePods, strings.Join(evidence.Pods, ", ")))
	}
	for _, event := range evidence.Events {
		out = append(out, "event        "+event)
	}
	return out
}
