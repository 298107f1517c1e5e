package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// domain is everything that shares one thing which may be what is broken.
type domain struct{ kind, name string }

func (d domain) String() string { return d.kind + "=" + d.name }

// domainState is how a domain fares.
type domainState struct {
	nodes int
	sick  []*Node
	// repairs that have not ended. A repair ends when its replacement has proved healthy; one that proved nothing keeps
	// its place for as long as the proof would have taken.
	repairs []domainRepair
	record  record
	waves   map[threshold]*wave // reckoned when first asked for
}

// domainRepair is one repair at work in a domain.
type domainRepair struct {
	reason string
	node   *Node // nil where it is gone
	// ends is when it ends, if all goes well; zero where that is not known yet.
	ends time.Time
}

// Domains names what a node shares with others, as kind=name: nodepool, zone, instance-type, image. What is not known
// of the node is left out. It is what NodeRepair.status.domains holds.
func Domains(node Node) []string {
	var out []string
	for _, d := range domainsOf(&node) {
		out = append(out, d.String())
	}
	return out
}

func domainsOf(node *Node) []domain {
	out := make([]domain, 0, 4)
	for _, d := range [...]domain{
		{"nodepool", node.NodePool}, {"zone", node.Zone}, {"instance-type", node.InstanceType}, {"image", node.Image},
	} {
		if d.name != "" {
			out = append(out, d)
		}
	}
	return out
}

// domainsOfRepair gives what the repair recorded; before it has recorded anything, what is known of its node.
func (ix *index) domainsOfRepair(repair *v1alpha1.NodeRepair) []domain {
	if len(repair.Status.Domains) == 0 {
		if node, ok := ix.nodes[repair.Spec.NodeClaim.UID]; ok {
			return domainsOf(node)
		}
		return domainsOf(&Node{NodePool: repair.Spec.NodePool})
	}
	out := make([]domain, 0, len(repair.Status.Domains))
	for _, s := range repair.Status.Domains {
		kind, name, _ := strings.Cut(s, "=")
		out = append(out, domain{kind, name})
	}
	return out
}

// countsTowardsDomains leaves out nodes of which nobody can tell yet whether they are any good, and nodes that leave for
// other reasons: what a node looks like on its way out says nothing about what it shared.
func (ix *index) countsTowardsDomains(node *Node) bool {
	if node.Terminated || (node.Deleting && ix.unfinished[node.NodeClaimUID] == nil) {
		return false
	}
	return node.Initialized || node.Rebooting || failing(node)
}

// failing says whether a node has a fault that its policy acts on, now or later. A person's request is no fault.
func failing(node *Node) bool { return slices.ContainsFunc(node.Verdict.Judgements, isFault) }

// gateCorrelated closes while a domain of the node is suspect, that is, while so many of its nodes are sick that the
// fault is taken for one that they share, and as many repairs are at work there as its record allows: one at first,
// twice as many with each replacement that proved healthy, and one again after a pause when one turned out sick too.
// A node that is sick of something else than the wave goes through, and so does a repair that a person asked for.
func gateCorrelated(ix *index, c *candidate) []Blocker {
	if c.requested || c.repair != nil {
		return nil
	}
	limit := thresholdOf(c.node)
	var out []Blocker
	for _, d := range domainsOf(c.node) {
		state := ix.domain(d)
		if !limit.suspects(state) {
			continue
		}
		w := state.waveOf(limit)
		if !w.has(c.node) {
			continue
		}
		why := fmt.Sprintf("%s is suspect with %d of %s sick", d, len(state.sick), plural(state.nodes, "node"))
		width, pausedUntil := state.record.width(), state.record.pausedUntil()
		switch {
		case pausedUntil.After(ix.in.Now):
			out = append(out, Blocker{
				Reason:   BlockerCorrelated,
				Message:  fmt.Sprintf("%s, and the last repair there failed: the next starts at %s", why, stamp(pausedUntil)),
				RetryAt:  pausedUntil,
				LiftedBy: liftByRequest,
			})
		case w.repairing >= width:
			out = append(out, Blocker{
				Reason: BlockerCorrelated,
				Message: fmt.Sprintf("%s: %s at a time until replacements prove healthy, %d at work; looked at again %s",
					why, plural(width, "repair"), w.repairing, w.whenNext()),
				RetryAt:  w.nextEnd,
				LiftedBy: liftByRequest,
			})
		}
	}
	return out
}
