package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// all are the sick nodes of a simulation, by the name of their NodeClaim.
func (s Simulation) all() map[string]placed {
	out := map[string]placed{}
	for outcome, nodes := range map[Outcome][]SimulatedNode{
		OutcomeRepaired: s.Repairs, OutcomeAtWork: s.AtWork, OutcomeHeld: s.Held, OutcomeShown: s.ShownOnly,
	} {
		for i := range nodes {
			out[nodes[i].NodeClaim] = placed{outcome: outcome, node: nodes[i]}
		}
	}
	return out
}

type placed struct {
	outcome Outcome
	node    SimulatedNode
}

// Outcome is what a pass means for a sick node.
type Outcome string

// The outcomes.
const (
	OutcomeRepaired Outcome = "Repaired"
	OutcomeAtWork   Outcome = "AtWork"
	OutcomeHeld     Outcome = "Held"
	OutcomeShown    Outcome = "ShownOnly"
)

// Comparison is what other policies would change.
type Comparison struct {
	// Time of the two passes.
	Time metav1.Time `json:"time"`
	// Policies say what becomes of each RepairPolicy, one sentence each.
	Policies []string `json:"policies"`
	// Changes by sick node; the nodes that are not named stay as they are.
	Changes []Change `json:"changes"`
	// Same counts the sick nodes about which the same is decided.
	Same int `json:"same"`
	// Before and After are the two passes.
	Before Simulation `json:"before"`
	After  Simulation `json:"after"`
}

// Change is what is decided otherwise about one node.
type Change struct {
	NodeClaim string `json:"nodeClaim"`
	Node      string `json:"node,omitempty"`
	NodePool  string `json:"nodePool,omitempty"`
	// Before and After are the outcomes.
	Before Outcome `json:"before"`
	After  Outcome `json:"after"`
	// What changes, one sentence each.
	What []string `json:"what"`
}

// Compare says what is decided otherwise after a change of policies. Both must be about the same moment and the same nodes.
func Compare(before, after Simulation) Comparison {
	c := Comparison{Time: after.Time, Before: before, After: after, Changes: []Change{}, Policies: comparePolicies(before.Policies, after.Policies)}
	was, is := before.all(), after.all()
	names := make([]string, 0, len(is))
	for name := range is {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		what := differ(was[name], is[name])
		if len(what) == 0 {
			c.Same++
			continue
		}
		node := is[name].node
		c.Changes = append(c.Changes, Change{
			NodeClaim: name, Node: node.Node, NodePool: node.NodePool, Before: was[name].outcome, After: is[name].outcome, What: what,
		})
	}
	slices.SortStableFunc(c.Changes, func(a, b Change) int { return rank(a) - rank(b) })
	return c
}

// rank has what newly starts first, then what no longer does, then the rest.
func rank(c Change) int {
	switch {
	case c.Before != OutcomeRepaired && c.After == OutcomeRepaired:
		return 0
	case c.Before == OutcomeRepaired && c.After != OutcomeRepaired:
		return 1
	case c.After == OutcomeRepaired:
		return 2
	default:
		return 3
	}
}

func comparePolicies(before, after []SimulatedPolicy) []string {
	was := map[string]SimulatedPolicy{}
	for _, p := range before {
		was[p.Name] = p
	}
	out := []string{}
	for _, p := range after {
		old, known := was[p.Name]
		switch {
		case !known:
			out = append(out, fmt.Sprintf("RepairPolicy %q is new: it governs %d NodeClaims, of which %d are sick", p.Name, p.NodeClaims, p.Sick))
		case old.NodeClaims != p.NodeClaims || old.Sick != p.Sick:
			out = append(out, fmt.Sprintf("RepairPolicy %q governs %d NodeClaims (%d sick) instead of %d (%d sick)", p.Name, p.NodeClaims, p.Sick, old.NodeClaims, old.Sick))
		default:
			out = append(out, fmt.Sprintf("RepairPolicy %q governs %d NodeClaims (%d sick) as before", p.Name, p.NodeClaims, p.Sick))
		}
	}
	return out
}

// differ says in which ways the two differ; nothing where they do not. Scores and numbers in sentences are no difference of
// their own.
func differ(was, is placed) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch a, b := was.outcome, is.outcome; {
	case a == b:
		if a == OutcomeRepaired && was.node.Order != is.node.Order {
			say("starts as number %d instead of %d", is.node.Order, was.node.Order)
		}
	case b == OutcomeRepaired:
		say("is repaired (number %d)", is.node.Order)
	case a == OutcomeRepaired:
		say("is not repaired now")
	case b == OutcomeShown:
		say("is only shown")
	case a == OutcomeShown:
		say("is waited with, no longer only shown")
	}
	if rule(was.node) != rule(is.node) {
		say("%s instead of %s", rule(is.node), rule(was.node))
	}
	if was.node.Reason != is.node.Reason || was.node.Subject != is.node.Subject {
		say("for %s instead of %s", title(is.node), title(was.node))
	}
	if was.node.Action != is.node.Action {
		say("action %s instead of %s", orNone(is.node.Action), orNone(was.node.Action))
	}
	if was.node.TerminateFirst != is.node.TerminateFirst {
		say("terminate first: %t instead of %t", is.node.TerminateFirst, was.node.TerminateFirst)
	}
	if a, b := drainBoundOf(was.node), drainBoundOf(is.node); a != b {
		say("drain bound %s instead of %s", b, a)
	}
	if a, b := eligible(was.node), eligible(is.node); a != b {
		say("tolerated %s instead of %s", b, a)
	}
	return append(out, differBlockers(was.node, is.node)...)
}

func differBlockers(was, is SimulatedNode) []string {
	var out []string
	has := func(n SimulatedNode, reason string) bool {
		return slices.ContainsFunc(n.Blockers, func(b ExplainedBlocker) bool { return b.Reason == reason })
	}
	for _, b := range is.Blockers {
		if !has(was, b.Reason) {
			out = append(out, fmt.Sprintf("%s stands in the way: %s", b.Reason, b.Message))
		}
	}
	for _, b := range was.Blockers {
		if !has(is, b.Reason) {
			out = append(out, b.Reason+" stands in the way no longer")
		}
	}
	return out
}

func rule(n SimulatedNode) string {
	if n.Rule == "" {
		return "no rule"
	}
	return fmt.Sprintf("rule %q of RepairPolicy %q", n.Rule, n.Policy)
}

func title(n SimulatedNode) string { return strings.TrimSpace(n.Reason + " " + n.Subject) }

func orNone(action v1alpha1.Action) string {
	if action == "" {
		return string(v1alpha1.ActionNone)
	}
	return string(action)
}

func drainBoundOf(n SimulatedNode) string {
	if n.DrainBound == nil {
		return "none"
	}
	return n.DrainBound.Duration.String()
}

func eligible(n SimulatedNode) string {
	if n.EligibleAt == nil {
		return "for ever"
	}
	return "until " + n.EligibleAt.UTC().Format(time.RFC3339)
}
