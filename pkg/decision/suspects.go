package decision

import (
	"cmp"
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
		for _, node := range state.sick {
			s.NodePools = append(s.NodePools, node.NodePool)
		}
		slices.Sort(s.NodePools)
		s.NodePools = slices.Compact(s.NodePools)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Suspect) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out
}

// suspectedBy gives the first threshold, in the order of the nodes, that finds the domain suspect.
func suspectedBy(state *domainState) (threshold, bool) {
	for i, node := range state.sick {
		if i > 0 && node.Verdict.Policy == state.sick[i-1].Verdict.Policy {
			continue // one policy has one threshold, and most nodes of a domain have the same
		}
		if limit := thresholdOf(node); limit.suspects(state) {
			return limit, true
		}
	}
	return threshold{}, false
}
