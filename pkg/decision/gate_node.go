package decision

import (
	"fmt"
	"strings"
	"time"
)

// maxNamed is how many of a list a sentence names.
const maxNamed = 3

// gateRegistered leaves NodeClaims that never registered to Karpenter, which deletes them by its own timeout.
func gateRegistered(_ *index, c *candidate) []Blocker {
	if c.node.NodeName != "" {
		return nil
	}
	return []Blocker{{
		Reason:  BlockerNoNode,
		Message: "the NodeClaim has no Node yet; Karpenter removes it if it does not register in time",
	}}
}

// gatePods closes while pods may not be disrupted and nothing bounds how long they may hold up the drain.
func gatePods(_ *index, c *candidate) []Blocker {
	if len(c.node.PodBlockers) == 0 || c.drainBound != nil {
		return nil
	}
	return []Blocker{{
		Reason:   BlockerPods,
		Message:  "pods may not be disrupted, and no drain bound ends the wait: " + nameSome(c.node.PodBlockers),
		LiftedBy: "set drainBound in the rule of the RepairPolicy, or let the pods be disrupted",
	}}
}

const (
	// RebootSettles is how long what was found before a reboot may stand after it: detectors look again at intervals of
	// seconds, and confirm over a minute at most.
	RebootSettles = 2 * time.Minute
	// AgentSpeaks is how long the agent of a rebooted node may take until it says that it has seen the new boot. What it
	// said of the boot before stands until then.
	AgentSpeaks = 10 * time.Minute
)

// gateKarpenterActing closes while Karpenter works on the node for reasons of its own, or has just rebooted it. What it
// does to a node that we are repairing already is for the executor to judge.
func gateKarpenterActing(ix *index, c *candidate) []Blocker {
	if c.repair != nil {
		return nil
	}
	var doing string
	switch {
	case c.node.Rebooting:
		doing = "rebooting"
	case c.node.KarpenterDisrupting:
		doing = "disrupting"
	case c.node.SettlesUntil.After(ix.in.Now):
		return []Blocker{{
			Reason:  BlockerKarpenterActing,
			Message: fmt.Sprintf("Karpenter has rebooted the node: what was found before may stand until %s", stamp(c.node.SettlesUntil)),
			RetryAt: c.node.SettlesUntil,
		}}
	default:
		return nil
	}
	return []Blocker{{Reason: BlockerKarpenterActing, Message: "Karpenter itself is " + doing + " the node"}}
}

// gateOtherRepairer closes while a Karpenter that knows no veto repairs nodes itself.
func gateOtherRepairer(ix *index, _ *candidate) []Blocker {
	if !ix.in.Karpenter.OwnRepair || ix.in.Karpenter.HonoursDoNotRepair {
		return nil
	}
	return []Blocker{{
		Reason:   BlockerOtherRepairer,
		Message:  "Karpenter repairs nodes itself (feature gate NodeRepair) and this version of it cannot be kept off a node",
		LiftedBy: "turn Karpenter's feature gate NodeRepair off, or run Karpenter 1.15 or later",
	}}
}

// gateRepairInProgress closes while a NodeRepair is at work: there is at most one per NodeClaim.
func gateRepairInProgress(_ *index, c *candidate) []Blocker {
	if c.repair == nil {
		return nil
	}
	phase := c.repair.Status.Phase
	if phase == "" {
		phase = "Committed"
	}
	return []Blocker{{
		Reason:  BlockerRepairInProgress,
		Message: fmt.Sprintf("NodeRepair %s is at work on it (%s)", c.repair.Name, phase),
	}}
}

// gateReadable closes when something that another gate needs could not be read.
func gateReadable(_ *index, c *candidate) []Blocker {
	var out []Blocker
	for _, unreadable := range [][]string{c.node.Unreadable, c.pool.unreadable} {
		for _, what := range unreadable {
			out = append(out, Blocker{Reason: BlockerUnreadable, Message: what})
		}
	}
	return out
}

// nameSome names the first few and counts the rest, so that sentences stay bounded.
func nameSome(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}
