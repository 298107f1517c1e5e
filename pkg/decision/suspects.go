package decision

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Suspect is a domain of which so many nodes are sick that the fault is taken for one that they share.
type Suspect struct {
	// Kind is nodepool, zone, instance-type or image; Name that of the thing.
	Kind, Name string
	// Nodes that count towards the domain, and how many of them are Sick.
	Nodes, Sick int
	// Width is how many repairs may be at work there; Repairing is how many are.
	Width, Repairing int
	// PausedUntil is when the next may start after a failure; zero where none is waited for.
	PausedUntil time.Time
	// NodePools of the sick nodes, by name.
	NodePools []string
}

// suspects lists the suspect domains, by kind and name. Where policies disagree about the threshold of a domain, one that
// finds it suspect is enough.
func (ix *index) suspects() []Suspect {
	var out []Suspect
	for d, state := range ix.domains {
		limit, ok := suspectedBy(state)
		if !ok {
			continue
		}
		s := Suspect{
			Kind: d.kind, Name: d.name, Nodes: state.nodes, Sick: len(state.sick),
			Width: state.record.width(), Repairing: state.waveOf(limit).repairing,
		}
		if until := state.record.pausedUntil(); until.After(ix.in.Now) {
			s.PausedUntil = until
		}
		pools := map[string]bool{}
		for _, node := range state.sick {
			pools[node.NodePool] = true
		}
		s.NodePools = slices.Sorted(maps.Keys(pools))
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Suspect) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out
}

// suspectedBy gives the strictest of the thresholds that find the domain suspect; false where none does.
func suspectedBy(state *domainState) (strictest threshold, found bool) {
	for i, node := range state.sick {
		if i > 0 && node.Verdict.Policy == state.sick[i-1].Verdict.Policy {
			continue // one policy has one threshold, and most nodes of a domain have the same
		}
		limit := thresholdOf(node)
		if limit.suspects(state) && (!found || limit.compare(strictest) < 0) {
			strictest, found = limit, true
		}
	}
	return strictest, found
}

// compare orders thresholds, so that the same of several is taken whatever the order of the nodes.
func (t threshold) compare(other threshold) int {
	percent := func(t threshold) int {
		if t.percent {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(percent(t), percent(other)), cmp.Compare(t.most, other.most), cmp.Compare(t.minNodes, other.minNodes))
}
