package disruption

import (
	"context"
	"fmt"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	karpscheduling "sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// BuildInKind makes a NodeClaim like the candidate's from its NodePool's template. An error says why there can be none.
type BuildInKind func(ctx context.Context, d decision.Decision, candidate *karpdisruption.Candidate) (*karpv1.NodeClaim, error)

// InKindPlanner replaces a node by one of its kind. It needs neither instance types nor a simulation, so it works
// beside any Karpenter.
type InKindPlanner struct {
	build BuildInKind
}

// NewInKindPlanner makes an InKindPlanner.
func NewInKindPlanner(build BuildInKind) *InKindPlanner { return &InKindPlanner{build: build} }

// Plan gives one replacement, and none for a node whose pods need not move.
func (p *InKindPlanner) Plan(ctx context.Context, d decision.Decision, candidate *karpdisruption.Candidate, _ []*state.StateNode) (Plan, error) {
	if d.Node.ReschedulablePods == 0 {
		return Plan{}, nil
	}
	nodeClaim, err := p.build(ctx, d, candidate)
	if err != nil {
		return Plan{}, &BlockedError{Blocker: decision.Blocker{
			Reason:  decision.BlockerUnreadable,
			Message: fmt.Sprintf("no replacement in kind can be made: %s", err),
		}}
	}
	template := scheduling.NodeClaimTemplate{
		NodeClaim:    *nodeClaim,
		Requirements: karpscheduling.NewNodeSelectorRequirementsWithMinValues(nodeClaim.Spec.Requirements...),
	}
	if candidate.NodePool != nil {
		template.NodePoolName, template.NodePoolUUID = candidate.NodePool.Name, candidate.NodePool.UID
	}
	return Plan{Replacements: []*karpdisruption.Replacement{{NodeClaim: &scheduling.NodeClaim{NodeClaimTemplate: template}}}}, nil
}
