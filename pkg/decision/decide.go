package decision

import (
	"cmp"
	"slices"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// scorePeriod is the wait that outweighs one point of priority, and one failed repair of the node: those that were not
// tried yet go before those that were tried in vain.
const scorePeriod = 30 * time.Minute

// Decide says of every sick node whether it is repaired now, and if not, everything that stands in the way. The same
// input gives the same answer, whatever the order of its nodes and repairs.
func Decide(in Input) Result {
	ix := newIndex(in)
	candidates := ix.candidates()
	for _, c := range candidates {
		c.terminateFirst, c.placementNote = ix.mustTerminateFirst(c)
		if len(ix.blockers(c)) == 0 {
			c.admitted = true
			ix.admit(c)
		}
	}
	return ix.result(candidates)
}

// candidate is a sick node on its way through the gates.
type candidate struct {
	node      *Node
	deciding  *diagnosis.Judgement // nil where no rule applies
	requested bool
	repair    *v1alpha1.NodeRepair // unfinished, nil where none is at work
	pool      *poolState

	action         v1alpha1.Action
	actionNote     string
	drainBound     *time.Duration
	terminateFirst bool
	placementNote  string
	score          float64
	admitted       bool
}

// needsReplacement says whether a new node has to come up for the pods of this one.
func (c *candidate) needsReplacement() bool {
	return c.action == v1alpha1.ActionReplace && c.node.ReschedulablePods > 0
}

// candidates gives every sick node in the order in which repairs start.
func (ix *index) candidates() []*candidate {
	var out []*candidate
	for i := range ix.in.Nodes {
		node := &ix.in.Nodes[i]
		if needsDecision(node, ix.unfinished[node.NodeClaimUID]) {
			out = append(out, ix.candidate(node))
		}
	}
	slices.SortFunc(out, func(a, b *candidate) int {
		return cmp.Or(
			cmp.Compare(b.score, a.score),
			cmp.Compare(a.node.DisruptionCost, b.node.DisruptionCost),
			cmp.Compare(a.node.NodeClaim, b.node.NodeClaim),
			cmp.Compare(a.node.NodeClaimUID, b.node.NodeClaimUID),
		)
	})
	return out
}

func (ix *index) candidate(node *Node) *candidate {
	c := &candidate{
		node:      node,
		deciding:  node.Verdict.Deciding,
		requested: isRequested(node),
		repair:    ix.unfinished[node.NodeClaimUID],
		pool:      ix.pools[node.NodePool],
	}
	c.drainBound = shorter(node.TerminationGracePeriod, nil)
	if c.deciding == nil {
		return c
	}
	c.action, c.actionNote = ix.resolveAction(node)
	c.drainBound = shorter(c.deciding.DrainBound, node.TerminationGracePeriod)
	c.score = float64(c.deciding.Priority)
	if age := ix.in.Now.Sub(c.deciding.EligibleAt); age > 0 {
		c.score += float64(age) / float64(scorePeriod)
	}
	c.score -= float64(len(ix.history.failures(v1alpha1.NodeClaimReference{Name: node.NodeClaim, UID: node.NodeClaimUID}, ix.in.Now)))
	return c
}

// needsDecision says whether a node is sick in a way that somebody has to hear about. One that is leaving anyway is let go.
func needsDecision(node *Node, repair *v1alpha1.NodeRepair) bool {
	leaving := node.Deleting || node.Terminated
	return wantsRepair(node.Verdict) && (!leaving || repair != nil)
}

func isRequested(node *Node) bool {
	return node.Requested || slices.ContainsFunc(node.Verdict.Judgements, diagnosis.Judgement.Requested)
}

// shorter gives the shorter of two bounds, of which nil is none.
func shorter(a, b *time.Duration) *time.Duration {
	if a == nil || (b != nil && *b < *a) {
		a = b
	}
	if a == nil {
		return nil
	}
	bound := *a
	return &bound
}

// result explains those who were not admitted by how things stand after the pass, so that the next pass, which finds
// the admitted repairs in flight, says the same.
func (ix *index) result(candidates []*candidate) Result {
	var out Result
	var held []Decision
	for _, c := range candidates {
		if c.admitted {
			out.Decisions = append(out.Decisions, c.decision(nil))
			continue
		}
		c.terminateFirst, c.placementNote = ix.mustTerminateFirst(c)
		blockers := ix.blockers(c)
		held = append(held, c.decision(blockers))
		for _, b := range blockers {
			out.NextChange = earlier(out.NextChange, b.RetryAt)
		}
	}
	out.Decisions = append(out.Decisions, held...)
	out.Suspects = ix.suspects()
	return out
}

func (c *candidate) decision(blockers []Blocker) Decision {
	return Decision{
		Node:           *c.node,
		Admitted:       c.admitted,
		Action:         c.action,
		TerminateFirst: c.terminateFirst,
		DrainBound:     c.drainBound,
		Note:           joinNotes(c.actionNote, c.placementNote),
		Blockers:       blockers,
		Score:          c.score,
	}
}

func joinNotes(a, b string) string {
	if a != "" && b != "" {
		return a + "; " + b
	}
	return a + b
}

// earlier gives the earlier of two moments, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
