package disruption

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/samber/lo"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/state"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

var _ karpdisruption.Method = (*Method)(nil)

// notOffered closes the gate of a sick node that Karpenter itself does not offer for disruption.
const notOffered = "Karpenter does not offer the node for disruption now: it is in its disruption queue, has been nominated for pending pods, or has just changed"

// Gatherer gives the present state of the cluster.
type Gatherer interface {
	Gather(ctx context.Context) (decision.Input, error)
}

// ListRepairs reads all NodeRepairs past every cache.
type ListRepairs func(ctx context.Context) ([]v1alpha1.NodeRepair, error)

// Reboot asks Karpenter to reboot the node of an admitted candidate. It says false where that cannot be asked any more:
// the NodeClaim is rebooting already, or leaves, or has changed meanwhile.
type Reboot func(ctx context.Context, d decision.Decision) (bool, error)

// Method repairs unhealthy nodes. It is a disruption method of Karpenter's, which runs in Karpenter's own disruption
// controller as well as in ours beside an unmodified Karpenter.
type Method struct {
	gatherer Gatherer
	planner  Planner
	board    *Board
	repairs  ListRepairs
	reboot   Reboot
}

// NewMethod makes a Method that shows every decision on the board. repairs is asked again before anything is started,
// so that two passes never spend the same budget; it is nil where no NodeRepairs are made.
func NewMethod(gatherer Gatherer, planner Planner, board *Board, repairs ListRepairs) *Method {
	return &Method{gatherer: gatherer, planner: planner, board: board, repairs: repairs}
}

// RebootBy lets the Method itself ask for reboots, as Karpenter's own repair does: the Command of one says no more than
// that it has been asked for. Without it, whoever is given the Commands asks.
func (m *Method) RebootBy(reboot Reboot) *Method {
	m.reboot = reboot
	return m
}

// Reason is Unhealthy, to which a NodePool's budgets can refer.
func (*Method) Reason() karpv1.DisruptionReason { return karpv1.DisruptionReasonUnhealthy }

// Class is that of repair: pods are drained and PodDisruptionBudgets honoured up to the drain bound.
func (*Method) Class() string { return karpdisruption.RepairDisruptionClass }

// ConsolidationType is empty: a repair saves nothing.
func (*Method) ConsolidationType() string { return "" }

// ShouldDisrupt says whether the NodeClaim says of itself that it is unhealthy.
func (*Method) ShouldDisrupt(_ context.Context, candidate *karpdisruption.Candidate) bool {
	return candidate != nil && candidate.StateNode != nil && unhealthy(candidate.NodeClaim)
}

// unhealthy reads the verdict without StatusConditions(), which would add conditions to the object.
func unhealthy(nodeClaim *karpv1.NodeClaim) bool {
	if nodeClaim == nil {
		return false
	}
	for i := range nodeClaim.Status.Conditions {
		if nodeClaim.Status.Conditions[i].Type == v1alpha1.ConditionUnhealthy {
			return nodeClaim.Status.Conditions[i].IsTrue()
		}
	}
	return false
}

// ComputeCommands decides about every sick node, shows the decisions on the board, and gives one Command for each
// candidate that is admitted, in the order in which they shall start: as many as the budgets admit. budgets is nil
// where the decision shall reckon them itself.
func (m *Method) ComputeCommands(ctx context.Context, budgets map[string]int, candidates ...*karpdisruption.Candidate) ([]karpdisruption.Command, error) {
	in, err := m.gatherer.Gather(ctx)
	if err != nil {
		return nil, fmt.Errorf("gathering the state of the cluster, %w", err)
	}
	in.Budgets = budgets
	offered := lo.SliceToMap(candidates, func(c *karpdisruption.Candidate) (types.UID, *karpdisruption.Candidate) { return c.NodeClaim.UID, c })
	if budgets != nil {
		// Karpenter chooses the candidates. What it keeps back must not take the budget of what it offers.
		withhold(&in, offered)
	}
	result := decision.Decide(in)
	if m.repairs != nil && lo.SomeBy(result.Decisions, func(d decision.Decision) bool { return d.Admitted && offered[d.Node.NodeClaimUID] != nil }) {
		if in.Repairs, err = m.repairs(ctx); err != nil {
			return nil, fmt.Errorf("reading noderepairs anew, %w", err)
		}
		result = decision.Decide(in)
	}
	result, plans, err := m.plan(ctx, in, result, offered)
	if err != nil {
		return nil, err
	}
	m.board.Publish(result)
	return m.commands(ctx, result, plans, offered)
}

// withhold closes the gate of every sick node that is no candidate.
func withhold(in *decision.Input, offered map[types.UID]*karpdisruption.Candidate) {
	for i := range in.Nodes {
		if len(in.Nodes[i].Verdict.Judgements) > 0 && offered[in.Nodes[i].NodeClaimUID] == nil {
			in.Nodes[i].Unreadable = append(in.Nodes[i].Unreadable, notOffered)
		}
	}
}

// plan asks the planner about every admitted candidate. A candidate that cannot be planned is held back with the
// reason, and the decision is made again, so that its share of the budget goes to the next.
func (m *Method) plan(ctx context.Context, in decision.Input, result decision.Result, offered map[types.UID]*karpdisruption.Candidate) (
	decision.Result, map[types.UID]Plan, error,
) {
	plans := map[types.UID]Plan{}
	held := map[types.UID]decision.Blocker{}
	avoid := lo.MapToSlice(offered, func(_ types.UID, c *karpdisruption.Candidate) *state.StateNode { return c.StateNode })
	for {
		unplannable := len(held)
		for _, d := range result.Decisions {
			candidate := offered[d.Node.NodeClaimUID]
			if _, planned := plans[d.Node.NodeClaimUID]; !d.Admitted || candidate == nil || planned {
				continue
			}
			plan, err := m.planOne(ctx, d, candidate, avoid)
			if blocked := (*BlockedError)(nil); errors.As(err, &blocked) {
				held[d.Node.NodeClaimUID] = blocked.Blocker
				continue
			}
			if err != nil {
				return result, nil, fmt.Errorf("planning the replacement of nodeclaim %s, %w", d.Node.NodeClaim, err)
			}
			plans[d.Node.NodeClaimUID] = plan
			avoid = append(avoid, plan.Uses...)
		}
		if len(held) == unplannable {
			return explainHeld(result, held), plans, nil
		}
		for i := range in.Nodes {
			if blocker, ok := held[in.Nodes[i].NodeClaimUID]; ok {
				in.Nodes[i].Unreadable = []string{blocker.Message}
			}
		}
		result = decision.Decide(in)
	}
}

func (m *Method) planOne(ctx context.Context, d decision.Decision, candidate *karpdisruption.Candidate, avoid []*state.StateNode) (Plan, error) {
	if d.TerminateFirst || d.Action != v1alpha1.ActionReplace {
		return Plan{}, nil
	}
	return m.planner.Plan(ctx, d, candidate, avoid)
}

// explainHeld puts the planner's own blocker in the place of the one by which the node was held back.
func explainHeld(result decision.Result, held map[types.UID]decision.Blocker) decision.Result {
	for i := range result.Decisions {
		d := &result.Decisions[i]
		blocker, ok := held[d.Node.NodeClaimUID]
		if !ok {
			continue
		}
		d.Blockers = lo.Map(d.Blockers, func(b decision.Blocker, _ int) decision.Blocker {
			return lo.Ternary(b.Reason == decision.BlockerUnreadable, blocker, b)
		})
		if !blocker.RetryAt.IsZero() && (result.NextChange.IsZero() || blocker.RetryAt.Before(result.NextChange)) {
			result.NextChange = blocker.RetryAt
		}
	}
	return result
}

// commands makes a Command of every admitted candidate, and asks for the reboots. A candidate that was planned but is no
// longer admitted, since a later round of planning has given its place away, has none.
func (m *Method) commands(ctx context.Context, result decision.Result, plans map[types.UID]Plan, offered map[types.UID]*karpdisruption.Candidate) (
	[]karpdisruption.Command, error,
) {
	var out []karpdisruption.Command
	for _, d := range result.Decisions {
		candidate := offered[d.Node.NodeClaimUID]
		plan, planned := plans[d.Node.NodeClaimUID]
		if !d.Admitted || candidate == nil || !planned {
			continue
		}
		candidate.TerminationGracePeriod = drainBound(d.DrainBound, candidate.NodeClaim)
		command := karpdisruption.Command{
			Candidates:   []*karpdisruption.Candidate{candidate},
			Replacements: plan.Replacements,
			Results:      plan.Results,
		}
		if d.Action == v1alpha1.ActionReboot && m.reboot != nil {
			asked, err := m.reboot(ctx, d)
			if err != nil {
				return out, fmt.Errorf("rebooting the node of nodeclaim %s, %w", d.Node.NodeClaim, err)
			}
			if !asked {
				continue
			}
			command.Reboot = true
		}
		if d.TerminateFirst {
			command.TerminateFirstReason = karpdisruption.TerminateFirstStaticAtLimit
		}
		out = append(out, command)
	}
	return out, nil
}

// drainBound gives the shorter of the policy's bound and the NodeClaim's own; nil where the policy sets none, which
// leaves the NodeClaim's in force.
func drainBound(bound *time.Duration, nodeClaim *karpv1.NodeClaim) *time.Duration {
	if bound == nil {
		return nil
	}
	shortest := *bound
	if own := nodeClaim.Spec.TerminationGracePeriod; own != nil && own.Duration < shortest {
		shortest = own.Duration
	}
	return &shortest
}
