package decision

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Recheck says why a repair that is in flight may not delete its node after all; nothing where it may. It asks only
// what makes a repair let go: that the node recovered, that a person or policy no longer wants it, that something
// cannot be read, and that the budget no longer admits it. Of several of our own repairs the one committed first
// keeps its place, so that a shrunken budget does not make all of them let go at once.
func Recheck(in Input, nodeClaim types.UID) []Blocker {
	ix := newIndex(in)
	node, ok := ix.nodes[nodeClaim]
	if !ok {
		return []Blocker{{Reason: BlockerUnreadable, Message: "the NodeClaim of the repair is not among those that could be read"}}
	}
	c := ix.candidate(node)
	out := gateRecovered(ix, c)
	for _, b := range gatePolicy(ix, c) {
		if b.Reason != BlockerTolerating { // said by gateRecovered
			out = append(out, b)
		}
	}
	for _, g := range []gate{gateAllPaused, gateZonePaused, gatePoolPaused, gateVeto, gatePoolExists, gateBudgetStillThere, gateReadable} {
		out = append(out, g(ix, c)...)
	}
	return out
}

// gateRecovered closes when the reason for the repair has gone. What a silent source said last is no reason.
func gateRecovered(ix *index, c *candidate) []Blocker {
	verdict := c.node.Verdict
	if len(verdict.Judgements) == 0 {
		return []Blocker{{Reason: BlockerRecovered, Message: "the node has no Fatal finding any more that can be trusted"}}
	}
	if c.deciding == nil {
		if len(gatePolicy(ix, c)) > 0 {
			return nil // which says it better
		}
		return []Blocker{{Reason: BlockerRecovered, Message: fmt.Sprintf(
			"RepairPolicy %q asks for no repair of what is left: %s", verdict.Policy.Name, strings.Join(titles(verdict.Judgements), ", "))}}
	}
	if c.requested || c.deciding.Eligible(ix.in.Now) {
		return nil
	}
	return []Blocker{{
		Reason: BlockerRecovered,
		Message: fmt.Sprintf("nothing that is left of the node's findings is past its toleration (%s until %s)",
			strings.Join(titles(verdict.Judgements), ", "), stamp(c.deciding.EligibleAt)),
		RetryAt: c.deciding.EligibleAt,
	}}
}
