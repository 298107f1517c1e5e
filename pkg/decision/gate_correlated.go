package decision

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Defaults of RepairPolicy.spec.correlatedFailure, for policies that were not defaulted by the API server.
const (
	defaultMinNodes     = 3
	defaultMaxUnhealthy = "20%"
)

// domain is everything that shares one thing which may be what is broken.
type domain struct{ kind, name string }

func (d domain) String() string { return d.kind + "=" + d.name }

// domainState is how a domain fares.
type domainState struct {
	nodes, sick int
	// repairing counts repairs that have not ended; a repair ends when its replacement has proved healthy.
	repairing int
	record    record
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
func failing(node *Node) bool {
	for _, j := range node.Verdict.Judgements {
		if j.Acts() && !j.Requested() {
			return true
		}
	}
	return false
}

// gateCorrelated closes while a domain of the node is suspect, that is, while so many of its nodes are sick that the
// fault is taken for one that they share, and as many repairs are at work there as its record allows: one at first,
// twice as many with each replacement that proved healthy, and one again after a pause when one turned out sick too.
// A repair that a person asked for goes through.
func gateCorrelated(ix *index, c *candidate) []Blocker {
	if c.requested || c.repair != nil {
		return nil
	}
	limits := v1alpha1.CorrelatedFailureSpec{}
	if policy := c.node.Verdict.Policy; policy != nil {
		limits = policy.Spec.CorrelatedFailure
	}
	var out []Blocker
	for _, d := range domainsOf(c.node) {
		state := ix.domain(d)
		if !suspect(limits, state) {
			continue
		}
		why := fmt.Sprintf("%s is suspect with %d of %s sick", d, state.sick, plural(state.nodes, "node"))
		width, pausedUntil := state.record.width(), state.record.pausedUntil()
		switch {
		case pausedUntil.After(ix.in.Now):
			out = append(out, Blocker{
				Reason:   BlockerCorrelated,
				Message:  fmt.Sprintf("%s, and the last repair there failed: the next starts at %s", why, stamp(pausedUntil)),
				RetryAt:  pausedUntil,
				LiftedBy: liftByRequest,
			})
		case state.repairing >= width:
			out = append(out, Blocker{
				Reason: BlockerCorrelated,
				Message: fmt.Sprintf("%s: %s at a time until replacements prove healthy, %d at work",
					why, plural(width, "repair"), state.repairing),
				LiftedBy: liftByRequest,
			})
		}
	}
	return out
}

func suspect(limits v1alpha1.CorrelatedFailureSpec, state *domainState) bool {
	minNodes := int32(defaultMinNodes)
	if limits.MinNodes != nil {
		minNodes = *limits.MinNodes
	}
	if state.nodes < int(minNodes) {
		return false
	}
	maxUnhealthy := intstr.FromString(defaultMaxUnhealthy)
	if limits.MaxUnhealthy != nil {
		maxUnhealthy = *limits.MaxUnhealthy
	}
	if maxUnhealthy.Type == intstr.Int {
		return state.sick > maxUnhealthy.IntValue()
	}
	percent, err := intstr.GetScaledValueFromIntOrPercent(&maxUnhealthy, 100, false)
	if err != nil {
		percent = 0 // the policy is invalid, which another gate says; here any sick node is one too many
	}
	return state.sick*100 > percent*state.nodes
}
