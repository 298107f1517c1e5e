package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// Paused is one thing that is not repaired because a person said so.
type Paused struct {
	// What is paused: everything, zone/NAME (with a comma between several), nodepool/NAME, policy/NAME, node/NAME.
	What string `json:"what"`
	// How it is written, for example: annotation autorepair.sh/pause on NodePool default.
	How string `json:"how"`
	// By is who set it, as far as the API tells.
	By string `json:"by,omitempty"`
	// Why in the words of who set it.
	Why   string       `json:"why,omitempty"`
	Until *metav1.Time `json:"until,omitempty"`
	// Problem is what is wrong with how it is written.
	Problem string `json:"problem,omitempty"`
	// LiftedBy is the command that lifts it.
	LiftedBy string `json:"liftedBy"`
}

// pausedOf lists everything that is paused now, the widest first.
func pausedOf(in decision.Input, policies []v1alpha1.RepairPolicy) []Paused {
	out := []Paused{}
	add := func(what string, stops []decision.Stop) {
		for _, stop := range decision.Holding(stops, in.Now) {
			out = append(out, Paused{
				What: what, How: stop.What, By: stop.By, Why: stop.Why, Until: orNil(stop.Until), Problem: stop.Problem, LiftedBy: stop.LiftedBy,
			})
		}
	}
	for _, stop := range in.Pauses {
		what := "everything"
		if len(stop.Zones) > 0 {
			what = "zone/" + strings.Join(stop.Zones, ",")
		}
		add(what, []decision.Stop{stop})
	}
	for i := range policies {
		add("policy/"+policies[i].Name, stopsOfPolicy(&policies[i]))
	}
	for _, name := range slices.Sorted(maps.Keys(in.NodePools)) {
		add("nodepool/"+name, in.NodePools[name].Pauses)
	}
	nodes := slices.Clone(in.Nodes)
	slices.SortFunc(nodes, func(a, b decision.Node) int { return strings.Compare(nodeLabel(a), nodeLabel(b)) })
	for _, node := range nodes {
		add(nodeLabel(node), node.Vetoes)
	}
	return out
}

func nodeLabel(node decision.Node) string {
	if node.NodeName != "" {
		return "node/" + node.NodeName
	}
	return "nodeclaim/" + node.NodeClaim
}

// stopsOfPolicy gives the stop that mode Paused, or DryRun, is.
func stopsOfPolicy(policy *v1alpha1.RepairPolicy) []decision.Stop {
	stop := decision.Stop{
		What: "mode " + string(policy.Spec.Mode), By: decision.SetBy(policy.ManagedFields, "mode"),
		LiftedBy: fmt.Sprintf("%s resume policy %s", commandName, policy.Name),
	}
	switch policy.Spec.Mode {
	case v1alpha1.ModePaused:
		stop.Until, stop.Problem = decision.StopUntil("pausedUntil", policy.Spec.PausedUntil)
	case v1alpha1.ModeDryRun:
		stop.LiftedBy = fmt.Sprintf(`kubectl patch repairpolicy %s --type merge -p '{"spec":{"mode":"Enforce"}}'`, policy.Name)
	default:
		return nil
	}
	return []decision.Stop{stop}
}

func pausedTable(paused []Paused) *Table {
	table := &Table{Columns: []string{"What", "Until", "By", "Why", "How+", "Problem+", "Resume+"}}
	for _, p := range paused {
		until := "until it is resumed"
		if p.Until != nil {
			until = stamp(p.Until.Time)
		}
		table.Rows = append(table.Rows, []string{p.What, until, p.By, p.Why, p.How, p.Problem, p.LiftedBy})
	}
	return table
}
