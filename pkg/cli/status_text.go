package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Sections are the fleet in one screen: what matters most comes last, where the eye is when a command has ended.
func (s *Status) Sections(wide bool) []Section {
	out := []Section{{Lines: s.headlines()}}
	add := func(title string, table *Table, hint string) {
		if len(table.Rows) == 0 {
			return
		}
		section := Section{Title: title, Table: table}
		if left := s.shorten(table); left > 0 {
			section.After = append(section.After, fmt.Sprintf("... and %d more: --all shows them", left))
		}
		if hint != "" {
			section.After = append(section.After, hint)
		}
		out = append(out, section)
	}
	add("PAUSED", pausedTable(s.Paused), "")
	add("NODEPOOLS", s.poolTable(), "")
	add("SUSPECT DOMAINS", s.suspectTable(), "So many of these are sick that they share a cause: WIDTH repairs at a time, twice as many with each that helps.")
	add("REPAIRING", s.repairingTable(), "")
	hint := ""
	if len(s.Waiting) > 0 {
		hint = fmt.Sprintf("%s explain %s says what each of these means and who can lift it.", commandName, s.Waiting[0].NodeClaim)
	}
	add("SICK AND NOT BEING REPAIRED", s.waitingTable(), hint)
	return out
}

// shorten drops rows that are too many for a screen, and says how many.
func (s *Status) shorten(table *Table) int {
	if s.rows <= 0 || len(table.Rows) <= s.rows {
		return 0
	}
	left := len(table.Rows) - s.rows
	table.Rows = table.Rows[:s.rows]
	return left
}

func (s *Status) headlines() []string {
	sum := s.Summary
	first := fmt.Sprintf("%s in %s: %d sick", plural(sum.Nodes, "node"), plural(len(s.NodePools), "NodePool"), sum.Sick)
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{
		{sum.Repairing, "being repaired"}, {sum.Waiting, "waiting"}, {sum.Tolerated, "tolerated for now"}, {sum.Leaving, "leaving anyway"}, {sum.Shown, "shown only"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if len(parts) > 0 {
		first += " (" + strings.Join(parts, ", ") + ")"
	}
	if sum.Repairs > 0 {
		first += fmt.Sprintf(", %s at work", plural(sum.Repairs, "repair"))
	}
	lines := []string{first}
	if sum.Unwatched > 0 {
		lines = append(lines, fmt.Sprintf("%s without a NodeHealth: nobody can tell how they are", plural(sum.Unwatched, "node")))
	}
	if sum.Foreign > 0 {
		lines = append(lines, fmt.Sprintf("%s not Karpenter's, so never repaired", plural(sum.Foreign, "node")))
	}
	if s.Controller != nil {
		lines = append(lines, s.Controller.sentence(s.At.Time))
	}
	return lines
}

func (s *Status) poolTable() *Table {
	table := &Table{Columns: []string{"NodePool", "Nodes", "Sick", "Tolerated", "Waiting", "Repairs", "Budget", "Paused", "Policies+", "Problem+"}}
	for _, pool := range s.NodePools {
		paused := ""
		if pool.Paused {
			paused = "Paused"
		}
		table.Rows = append(table.Rows, []string{
			cmp.Or(pool.Name, "<none>"), strconv.Itoa(pool.Nodes), strconv.Itoa(pool.Sick), strconv.Itoa(pool.Tolerated), strconv.Itoa(pool.Waiting),
			strconv.Itoa(pool.Repairs), pool.budget(), paused, strings.Join(pool.Policies, ","), pool.Problem,
		})
	}
	return table
}

// budget says how much of the disruption budget for reason Unhealthy is used.
func (p PoolStatus) budget() string {
	switch {
	case p.Name == "":
		return ""
	case p.Problem != "":
		return "unreadable"
	case p.Limit == nil:
		return fmt.Sprintf("%d, no limit", p.InFlight)
	default:
		return fmt.Sprintf("%d of %d", p.InFlight, *p.Limit)
	}
}

func (s *Status) suspectTable() *Table {
	table := &Table{Columns: []string{"Domain", "Sick", "Width", "At work", "Next"}}
	for _, suspect := range s.Suspects {
		next := "when one ends"
		if suspect.PausedUntil != nil {
			next = "at " + stamp(suspect.PausedUntil.Time)
		} else if suspect.Repairing < suspect.Width {
			next = "one may start"
		}
		table.Rows = append(table.Rows, []string{
			suspect.Domain, fmt.Sprintf("%d of %d", suspect.Sick, suspect.Nodes), strconv.Itoa(suspect.Width), strconv.Itoa(suspect.Repairing), next,
		})
	}
	return table
}

func (s *Status) repairingTable() *Table {
	table := &Table{Columns: []string{"Node", "NodePool", "Cause", "Subject+", "Action", "Phase", "For", "Replacement+", "NodeRepair", "Next+"}}
	for _, r := range s.Repairing {
		table.Rows = append(table.Rows, []string{
			cmp.Or(r.Node, r.NodeClaim), r.NodePool, r.Cause, r.Subject, string(r.Action), string(r.Phase), age(s.At.Time, r.Started.Time),
			r.Replacement, r.NodeRepair, r.Next,
		})
	}
	return table
}

func (s *Status) waitingTable() *Table {
	table := &Table{Columns: []string{"Node", "NodePool", "Cause", "Subject+", "Since", "Because of", "NodeClaim+", "Message+"}}
	for _, w := range s.Waiting {
		table.Rows = append(table.Rows, []string{
			cmp.Or(w.Node, w.NodeClaim), w.NodePool, w.cause(), w.Subject, age(s.At.Time, w.Since.Time), w.because(s.At.Time), w.NodeClaim, w.message(),
		})
	}
	return table
}

// cause names the fault that decides, and how many others there are.
func (w WaitingNode) cause() string {
	if w.Faults > 1 {
		return fmt.Sprintf("%s +%d", w.Cause, w.Faults-1)
	}
	return w.Cause
}

// because names the blockers.
func (w WaitingNode) because(now time.Time) string {
	var reasons []string
	for _, b := range w.Blockers {
		reason := b.Reason
		if w.ToleratedUntil != nil && reason == "Tolerating" {
			reason = fmt.Sprintf("Tolerating for %s more", age(w.ToleratedUntil.Time, now))
		}
		reasons = append(reasons, reason)
	}
	if len(reasons) == 0 {
		return "the controller has not said yet"
	}
	return strings.Join(reasons, ", ")
}

func (w WaitingNode) message() string {
	if len(w.Blockers) == 0 {
		return ""
	}
	return w.Blockers[0].Message
}
