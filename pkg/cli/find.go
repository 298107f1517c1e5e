package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// Machine is a Node and its NodeClaim; one of the two may be missing.
type Machine struct {
	Node      *corev1.Node
	NodeClaim *karpv1.NodeClaim
}

// NodeName is the name of the Node; empty before it has joined.
func (m Machine) NodeName() string {
	switch {
	case m.Node != nil:
		return m.Node.Name
	case m.NodeClaim != nil:
		return m.NodeClaim.Status.NodeName
	default:
		return ""
	}
}

// NodePool is the name of the NodePool; empty where there is none.
func (m Machine) NodePool() string {
	switch {
	case m.NodeClaim != nil:
		return m.NodeClaim.Labels[karpv1.NodePoolLabelKey]
	case m.Node != nil:
		return m.Node.Labels[karpv1.NodePoolLabelKey]
	default:
		return ""
	}
}

// Machines pairs every NodeClaim with its Node, as Karpenter does: by provider ID. Nodes without a NodeClaim, which are
// not Karpenter's, follow.
func (f *Fleet) Machines() []Machine {
	byProviderID, byName := map[string]*corev1.Node{}, map[string]*corev1.Node{}
	for i := range f.Nodes {
		byName[f.Nodes[i].Name] = &f.Nodes[i]
		if id := f.Nodes[i].Spec.ProviderID; id != "" {
			byProviderID[id] = &f.Nodes[i]
		}
	}
	var out []Machine
	paired := map[string]bool{}
	for i := range f.NodeClaims {
		claim := &f.NodeClaims[i]
		node := byProviderID[claim.Status.ProviderID]
		if node == nil {
			node = byName[claim.Status.NodeName]
		}
		if node != nil {
			paired[node.Name] = true
		}
		out = append(out, Machine{Node: node, NodeClaim: claim})
	}
	for i := range f.Nodes {
		if !paired[f.Nodes[i].Name] {
			out = append(out, Machine{Node: &f.Nodes[i]})
		}
	}
	return out
}

// Find gives the machine with a name, which is that of a Node or of a NodeClaim; "node/NAME" and "nodeclaim/NAME" say
// which. The error of an unknown name suggests those that are near.
func (f *Fleet) Find(name string) (Machine, error) {
	kind, bare := kindAndName(name)
	var names []string
	for _, m := range f.Machines() {
		if m.Node != nil && kind != "nodeclaim" {
			if m.Node.Name == bare {
				return m, nil
			}
			names = append(names, m.Node.Name)
		}
	}
	for _, m := range f.Machines() {
		if m.NodeClaim != nil && kind != "node" {
			if m.NodeClaim.Name == bare {
				return m, nil
			}
			names = append(names, m.NodeClaim.Name)
		}
	}
	what := "Node or NodeClaim"
	switch kind {
	case "node":
		what = "Node"
	case "nodeclaim":
		what = "NodeClaim"
	}
	return Machine{}, unknownName(what, bare, names)
}

// kindAndName splits "node/a" and its like; a bare name has no kind.
func kindAndName(text string) (kind, name string) {
	before, after, ok := strings.Cut(text, "/")
	if !ok {
		return "", text
	}
	switch strings.ToLower(before) {
	case "node", "nodes", "no":
		return "node", after
	case "nodeclaim", "nodeclaims", "nodeclaims.karpenter.sh", "nodeclaim.karpenter.sh":
		return "nodeclaim", after
	default:
		return "", text
	}
}

// unknownName is the error of a name that nothing has; it suggests up to three that are near.
func unknownName(what, name string, known []string) error {
	near := nearest(name, known)
	if len(near) == 0 {
		return fmt.Errorf("there is no %s %q among %d", what, name, len(known))
	}
	return fmt.Errorf("there is no %s %q: did you mean %s?", what, name, strings.Join(near, " or "))
}

// nearest gives up to three names like the one given, the nearest first: those that contain it, then those that are
// spelt alike.
func nearest(name string, known []string) []string {
	type candidate struct {
		name     string
		likeness float64
	}
	var candidates []candidate
	for _, k := range known {
		likeness := levenshtein.Match(name, k, nil)
		if name != "" && strings.Contains(k, name) {
			likeness++
		}
		if likeness > 0.6 {
			candidates = append(candidates, candidate{k, likeness})
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.likeness, a.likeness), cmp.Compare(a.name, b.name))
	})
	var out []string
	for _, c := range candidates {
		if len(out) < 3 && !slices.Contains(out, c.name) {
			out = append(out, c.name)
		}
	}
	return out
}
