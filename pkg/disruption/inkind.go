package disruption

import (
	"context"

	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/controllers/state"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// InKindPlanner replaces a node by one of its kind. It needs neither instance types nor a simulation, so it works
// beside any Karpenter. What it plans is the NodePool's present template; whoever carries the repair out narrows it to
// the node, anew for each attempt.
type InKindPlanner struct{}

// NewInKindPlanner makes an InKindPlanner.
func NewInKindPlanner() InKindPlanner { return InKindPlanner{} }

// Plan gives one replacement, and none for a node whose pods need not move.
func (InKindPlanner) Plan(_ context.Context, d decision.Decision, candidate *karpdisruption.Candidate, _ []*state.StateNode) (Plan, error) {
	if d.Node.ReschedulablePods == 0 {
		return Plan{}, nil
	}
	if candidate.NodePool == nil {
		return Plan{}, &BlockedError{Blocker: decision.Blocker{
			Reason:  decision.BlockerNodePoolMissing,
			Message: "the NodePool to make a replacement from was not found",
		}}
	}
	template := scheduling.NewNodeClaimTemplate(candidate.NodePool)
	return Plan{Replacements: []*karpdisruption.Replacement{{NodeClaim: &scheduling.NodeClaim{NodeClaimTemplate: *template}}}}, nil
}
