package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/explain"
)

// simulationView shows a Simulation; json and yaml are the Simulation itself.
type simulationView struct {
	explain.Simulation
	width int
}

// Sections are what starts, what is at work, what waits, and why.
func (v simulationView) Sections(wide bool) []Section {
	out := []Section{{Lines: v.head()}}
	add := func(title string, nodes []explain.SimulatedNode) {
		if len(nodes) > 0 {
			out = append(out, Section{Title: title, Table: v.table(nodes)})
		}
	}
	add("WOULD BE REPAIRED NOW, IN THIS ORDER", v.Repairs)
	add("BEING REPAIRED", v.AtWork)
	add("WOULD WAIT, IN THIS ORDER", v.Held)
	add("NOTHING TO DECIDE", v.ShownOnly)
	if lines := v.why(wide); len(lines) > 0 {
		out = append(out, Section{Title: "WHY THEY WAIT", Lines: lines})
	}
	if wide {
		out = append(out, Section{Title: "POLICIES", Table: policyTable(v.Policies)})
	}
	return out
}

func (v simulationView) head() []string {
	var counts []string
	count := func(n int, one, many string) {
		switch n {
		case 0:
		case 1:
			counts = append(counts, "1 "+one)
		default:
			counts = append(counts, fmt.Sprintf("%d %s", n, many))
		}
	}
	count(len(v.Repairs), "would be repaired now", "would be repaired now")
	count(len(v.AtWork), "is being repaired", "are being repaired")
	count(len(v.Held), "would wait", "would wait")
	count(len(v.ShownOnly), "is only shown or leaving", "are only shown or leaving")
	said := fmt.Sprintf("At %s: %s, %d sick", stamp(v.Time.Time), plural(v.NodeClaims, "NodeClaim"), v.Sick)
	if len(counts) > 0 {
		said += ": " + strings.Join(counts, ", ")
	}
	lines := wrap(said, "", 0, v.width)
	if v.NextChange != nil {
		lines = append(lines, wrap(fmt.Sprintf("the next change without anybody's doing is at %s (%s)", stamp(v.NextChange.Time), distance(v.Time.Time, v.NextChange.Time)), "", 0, v.width)...)
	}
	return lines
}

func (v simulationView) table(nodes []explain.SimulatedNode) *Table {
	table := &Table{Columns: []string{"Order", "Node", "NodeClaim", "NodePool", "Action", "Cause", "Since", "Policy", "Rule", "Blockers", "Score+", "DrainBound+", "Note+"}}
	for i := range nodes {
		n := &nodes[i]
		action := cmp.Or(string(n.Action), "-")
		if n.TerminateFirst {
			action += " (terminate first)"
		}
		bound := "-"
		if n.DrainBound != nil {
			bound = n.DrainBound.Duration.String()
		}
		table.Rows = append(table.Rows, []string{
			order(n.Order), cmp.Or(n.Node, "-"), n.NodeClaim, cmp.Or(n.NodePool, "-"), action, strings.TrimSpace(n.Reason + " " + n.Subject),
			age(v.Time.Time, n.Since.Time), cmp.Or(n.Policy, "-"), cmp.Or(n.Rule, "-"), cmp.Or(blockerNames(n.Blockers), "-"),
			strconv.FormatFloat(n.Score, 'f', 2, 64), bound, n.Note,
		})
	}
	return table.without(func(column string) bool {
		return column == "Order" && nodes[0].Order == 0 || column == "Blockers" && blockerless(nodes)
	})
}

func order(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func blockerless(nodes []explain.SimulatedNode) bool {
	return !slices.ContainsFunc(nodes, func(n explain.SimulatedNode) bool { return len(n.Blockers) > 0 })
}

func blockerNames(blockers []explain.ExplainedBlocker) string {
	return strings.Join(explain.ReasonsOf(blockers), ",")
}

// without gives the table without some of its columns.
func (t *Table) without(drop func(column string) bool) *Table {
	out := &Table{Rows: make([][]string, len(t.Rows))}
	for i, column := range t.Columns {
		if drop(column) {
			continue
		}
		out.Columns = append(out.Columns, column)
		for j := range t.Rows {
			out.Rows[j] = append(out.Rows[j], t.Rows[j][i])
		}
	}
	return out
}

// namedNodes is how many nodes a blocker names unless the output is wide.
const namedNodes = 3

// held is a blocker, and the nodes that it holds; several that are lifted in the same way and hold the same are one.
type held struct {
	blockers []explain.ExplainedBlocker
	nodes    []string
}

// why tells every blocker once, with the nodes that it holds.
func (v simulationView) why(wide bool) []string {
	when := func(at time.Time) string { return fmt.Sprintf("%s (%s)", stamp(at), distance(v.Time.Time, at)) }
	var lines []string
	for _, h := range v.heldBy() {
		lines = append(lines, h.blockers[0].Reason)
		most := namedNodes
		if wide {
			most = len(h.nodes)
		}
		names := strings.Join(h.nodes[:min(most, len(h.nodes))], ", ")
		if more := len(h.nodes) - most; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		lines = append(lines, aligned(append([][]string{{"holds", names}}, blockerRows(h.blockers, when)...), 2, v.width)...)
	}
	return lines
}

func (v simulationView) heldBy() []held {
	type said struct{ reason, message string }
	at := map[said]int{}
	var single []held
	for i := range v.Held {
		for _, b := range v.Held[i].Blockers {
			key := said{b.Reason, b.Message}
			if _, known := at[key]; !known {
				at[key] = len(single)
				single = append(single, held{blockers: []explain.ExplainedBlocker{b}})
			}
			single[at[key]].nodes = append(single[at[key]].nodes, cmp.Or(v.Held[i].Node, v.Held[i].NodeClaim))
		}
	}
	var out []held
	for _, h := range single {
		same := slices.IndexFunc(out, func(o held) bool {
			return liftedAlike(o.blockers[0], h.blockers[0]) && slices.Equal(o.nodes, h.nodes)
		})
		if same < 0 {
			out = append(out, h)
			continue
		}
		out[same].blockers = append(out[same].blockers, h.blockers...)
	}
	return out
}

func policyTable(policies []explain.SimulatedPolicy) *Table {
	table := &Table{Columns: []string{"RepairPolicy", "Mode", "Weight", "NodeClaims", "Sick", "Problems"}}
	for _, p := range policies {
		table.Rows = append(table.Rows, []string{
			p.Name, string(p.Mode), strconv.Itoa(int(p.Weight)), strconv.Itoa(p.NodeClaims), strconv.Itoa(p.Sick), cmp.Or(strings.Join(p.Problems, "; "), "-"),
		})
	}
	return table
}

// comparisonView shows a Comparison; json and yaml are the Comparison itself.
type comparisonView struct {
	explain.Comparison
	width int
}

// Sections are what becomes of the policies, and of the nodes.
func (v comparisonView) Sections(wide bool) []Section {
	head := fmt.Sprintf("At %s: with the policies of the files %s decided about otherwise, and %d as before",
		stamp(v.Time.Time), sickNodes(len(v.Changes)), v.Same)
	out := []Section{{Lines: append(wrap(head, "", 0, v.width), v.policies()...)}}
	if len(v.Changes) > 0 {
		out = append(out, Section{Title: "CHANGES", Lines: v.changes()})
	}
	if wide {
		before := simulationView{Simulation: v.Before, width: v.width}.Sections(false)
		before[0].Title = "BEFORE"
		after := simulationView{Simulation: v.After, width: v.width}.Sections(false)
		after[0].Title = "AFTER"
		out = append(append(out, before...), after...)
	}
	return out
}

func sickNodes(n int) string {
	if n == 1 {
		return "1 sick node is"
	}
	return fmt.Sprintf("%d sick nodes are", n)
}

func (v comparisonView) policies() []string {
	var lines []string
	for _, policy := range v.Comparison.Policies {
		lines = append(lines, wrap(policy, "", 0, v.width)...)
	}
	return lines
}

func (v comparisonView) changes() []string {
	var lines []string
	for i := range v.Comparison.Changes {
		c := &v.Comparison.Changes[i]
		lines = append(lines, fmt.Sprintf("%s (NodeClaim %s, NodePool %s)", cmp.Or(c.Node, "-"), c.NodeClaim, cmp.Or(c.NodePool, "-")))
		for _, what := range c.What {
			lines = append(lines, wrap(what, "  - ", 4, v.width)...)
		}
	}
	return lines
}
