package disruption

import (
	"context"

	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/controllers/state"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// Plan is what has to stand before a sick node may go.
type Plan struct {
	Replacements []*karpdisruption.Replacement
	// Results of the simulation, where there was one; the nodes in it are nominated for the pods that move.
	Results scheduling.Results
	// Uses are the nodes that take pods of the sick node; other plans of the pass must not count on them.
	Uses []*state.StateNode
}

// Planner makes replacements. avoid are nodes that may take none of the pods: they are sick themselves, or another
// plan of the same pass counts on them. A BlockedError says that there can be no replacement now.
type Planner interface {
	Plan(ctx context.Context, d decision.Decision, candidate *karpdisruption.Candidate, avoid []*state.StateNode) (Plan, error)
}

// BlockedError says why a node cannot be replaced now, in a way that is shown to people.
type BlockedError struct {
	Blocker decision.Blocker
}

// Error is the blocker's sentence.
func (e *BlockedError) Error() string { return e.Blocker.Message }
