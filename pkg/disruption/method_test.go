package disruption

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/state"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// cluster answers Gather from a fixed Input.
type cluster struct {
	in  decision.Input
	err error
}

func (c cluster) Gather(context.Context) (decision.Input, error) { return c.in, c.err }

// planner plans nothing, and holds back the nodes that it is told to.
type planner struct {
	blocked map[string]string
	err     error
	asked   []string
	avoided []int
}

func (p *planner) Plan(_ context.Context, d decision.Decision, _ *karpdisruption.Candidate, avoid []*state.StateNode) (Plan, error) {
	p.asked = append(p.asked, d.Node.NodeClaim)
	p.avoided = append(p.avoided, len(avoid))
	if p.err != nil {
		return Plan{}, p.err
	}
	if why, ok := p.blocked[d.Node.NodeClaim]; ok {
		return Plan{}, &BlockedError{Blocker: decision.Blocker{Reason: decision.BlockerUnschedulable, Message: why}}
	}
	return Plan{Replacements: []*karpdisruption.Replacement{{}}, Uses: []*state.StateNode{{}}}, nil
}

func TestComputeCommands(t *testing.T) {
	for name, test := range map[string]struct {
		sick        []string
		offered     []string
		budget      string
		budgets     map[string]int
		blocked     map[string]string
		repairs     []v1alpha1.NodeRepair
		wantOrder   []string
		wantBlocked map[string]decision.BlockerReason
	}{
		"no sick node gives no command": {
			budget: "100%",
		},
		"every sick node that the budget admits gets a command of its own in the same pass": {
			sick: []string{"a", "b", "c"}, offered: []string{"c", "a", "b"}, budget: "2",
			wantOrder: []string{"a", "b"}, wantBlocked: map[string]decision.BlockerReason{"c": decision.BlockerBudget},
		},
		"a budget of nothing gives no command and says so": {
			sick: []string{"a"}, offered: []string{"a"}, budget: "0",
			wantBlocked: map[string]decision.BlockerReason{"a": decision.BlockerBudget},
		},
		"a sick node that is no candidate yet is decided about and gets no command": {
			sick: []string{"a", "b"}, offered: []string{"b"}, budget: "100%",
			wantOrder: []string{"b"},
		},
		"a candidate that is not sick any more gets no command": {
			offered: []string{"a"}, budget: "100%",
		},
		"the place of a node without a plan goes to the next": {
			sick: []string{"a", "b"}, offered: []string{"a", "b"}, budget: "1", blocked: map[string]string{"a": "no room"},
			wantOrder: []string{"b"}, wantBlocked: map[string]decision.BlockerReason{"a": decision.BlockerUnschedulable},
		},
		"budgets that Karpenter has reckoned are taken as they are": {
			sick: []string{"a", "b"}, offered: []string{"a", "b"}, budget: "0", budgets: map[string]int{"pool": 1},
			wantOrder: []string{"a"}, wantBlocked: map[string]decision.BlockerReason{"b": decision.BlockerBudget},
		},
		"what Karpenter keeps back does not take the budget of what it offers": {
			sick: []string{"a", "b"}, offered: []string{"b"}, budget: "0", budgets: map[string]int{"pool": 1},
			wantOrder: []string{"b"}, wantBlocked: map[string]decision.BlockerReason{"a": decision.BlockerUnreadable},
		},
		"a repair that the cache has not seen yet holds the budget": {
			sick: []string{"a", "b"}, offered: []string{"a", "b"}, budget: "1",
			repairs:     []v1alpha1.NodeRepair{unfinished("a")},
			wantBlocked: map[string]decision.BlockerReason{"a": decision.BlockerRepairInProgress, "b": decision.BlockerBudget},
		},
	} {
		t.Run(name, func(t *testing.T) {
			board := NewBoard(nil)
			plans := &planner{blocked: test.blocked}
			repairs := func(context.Context) ([]v1alpha1.NodeRepair, error) { return test.repairs, nil }
			method := NewMethod(cluster{in: input(test.budget, test.sick...)}, plans, board, repairs)
			var candidates []*karpdisruption.Candidate
			for _, nodeClaim := range test.offered {
				candidates = append(candidates, candidate(nodeClaim, true))
			}
			commands, err := method.ComputeCommands(context.Background(), test.budgets, candidates...)
			require.NoError(t, err)
			var order []string
			for _, command := range commands {
				require.Len(t, command.Candidates, 1)
				require.Equal(t, karpdisruption.ReplaceDecision, command.Decision())
				order = append(order, command.Candidates[0].NodeClaim.Name)
			}
			require.Equal(t, test.wantOrder, order)
			require.Len(t, board.All(), len(test.sick), "every sick node is on the board")
			for nodeClaim, reason := range test.wantBlocked {
				d, ok := board.Get(types.UID(nodeClaim))
				require.True(t, ok)
				require.Contains(t, reasons(d), reason)
				require.False(t, d.Admitted)
			}
		})
	}
}

func TestLaterPlansOfAPassKeepOffTheNodesOfEarlierOnes(t *testing.T) {
	plans := &planner{}
	method := NewMethod(cluster{in: input("100%", "a", "b")}, plans, NewBoard(nil), nil)
	_, err := method.ComputeCommands(context.Background(), nil, candidate("a", true), candidate("b", true))
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, plans.asked)
	require.Equal(t, []int{2, 3}, plans.avoided)
}

func TestComputeCommandsGivesNoCommandInDoubt(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		cluster cluster
		planner planner
		repairs error
	}{
		"the cluster cannot be read":    {cluster: cluster{err: broken}},
		"the planner breaks":            {cluster: cluster{in: input("100%", "a")}, planner: planner{err: broken}},
		"NodeRepairs cannot be re-read": {cluster: cluster{in: input("100%", "a")}, repairs: broken},
	} {
		t.Run(name, func(t *testing.T) {
			method := NewMethod(test.cluster, &test.planner, NewBoard(nil), func(context.Context) ([]v1alpha1.NodeRepair, error) { return nil, test.repairs })
			commands, err := method.ComputeCommands(context.Background(), nil, candidate("a", true))
			require.ErrorIs(t, err, broken)
			require.Empty(t, commands)
		})
	}
}

func TestShouldDisrupt(t *testing.T) {
	withoutNodeClaim := &karpdisruption.Candidate{StateNode: state.NewNode()}
	for name, test := range map[string]struct {
		candidate *karpdisruption.Candidate
		want      bool
	}{
		"a NodeClaim that is Unhealthy is a candidate":      {candidate: candidate("a", true), want: true},
		"a NodeClaim that is not Unhealthy is no candidate": {candidate: candidate("a", false)},
		"a NodeClaim without the condition is no candidate": {candidate: func() *karpdisruption.Candidate {
			c := candidate("a", true)
			c.NodeClaim.Status.Conditions = nil
			return c
		}()},
		"a Node without a NodeClaim is no candidate": {candidate: withoutNodeClaim},
		"nothing is no candidate":                    {candidate: &karpdisruption.Candidate{}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, (&Method{}).ShouldDisrupt(context.Background(), test.candidate))
		})
	}
}

func TestTheDrainBoundIsTheShorterOfPolicyAndNodeClaim(t *testing.T) {
	for name, test := range map[string]struct {
		policy, nodeClaim time.Duration
		want              time.Duration
	}{
		"without a bound the NodeClaim's own stays in force": {nodeClaim: time.Minute},
		"the policy's bound counts alone":                    {policy: time.Minute, want: time.Minute},
		"a shorter bound of the NodeClaim wins":              {policy: time.Hour, nodeClaim: time.Minute, want: time.Minute},
		"a longer bound of the NodeClaim does not":           {policy: time.Minute, nodeClaim: time.Hour, want: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			nodeClaim := &karpv1.NodeClaim{}
			if test.nodeClaim > 0 {
				nodeClaim.Spec.TerminationGracePeriod = &metav1.Duration{Duration: test.nodeClaim}
			}
			var policy *time.Duration
			if test.policy > 0 {
				policy = &test.policy
			}
			got := drainBound(policy, nodeClaim)
			if test.want == 0 {
				require.Nil(t, got)
				return
			}
			require.Equal(t, test.want, *got)
		})
	}
}

func reasons(d decision.Decision) []decision.BlockerReason {
	var out []decision.BlockerReason
	for _, blocker := range d.Blockers {
		out = append(out, blocker.Reason)
	}
	return out
}

// input is a NodePool of ten nodes, of which some are sick since the same hour.
func input(budget string, sick ...string) decision.Input {
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
	pool.Status.Conditions = []status.Condition{{Type: status.ConditionReady, Status: metav1.ConditionTrue}}
	pool.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: budget}}
	policy := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}}
	policy.Spec.Mode = v1alpha1.ModeEnforce
	policy.Spec.Rules = []v1alpha1.RepairRule{{
		Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: time.Minute}, Action: v1alpha1.ActionReplace,
	}}
	policies := diagnosis.Compile([]v1alpha1.RepairPolicy{*policy})
	in := decision.Input{Now: now, NodePools: map[string]decision.NodePool{"pool": {Object: pool}}}
	for _, name := range append(sick, "h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9", "h10", "h11", "h12", "h13", "h14", "h15", "h16") {
		in.Nodes = append(in.Nodes, decision.Node{
			NodeClaim: name, NodeClaimUID: types.UID(name), NodeName: name, NodePool: "pool", Initialized: true, ReschedulablePods: 1,
			Capacity: corev1.ResourceList{},
		})
	}
	for i := range sick {
		in.Nodes[i].Verdict = policies.Diagnose(now, diagnosis.Subject{Name: sick[i], Health: &v1alpha1.NodeHealth{
			Sources: []v1alpha1.Source{{Name: "test", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}}},
			Findings: []v1alpha1.Finding{{
				Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal,
				Since: metav1.NewTime(now.Add(-time.Hour)),
			}},
		}}).Verdict
	}
	return in
}

func candidate(name string, sick bool) *karpdisruption.Candidate {
	stateNode := state.NewNode()
	stateNode.NodeClaim = &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	condition := status.Condition{Type: v1alpha1.ConditionUnhealthy, Status: metav1.ConditionFalse}
	if sick {
		condition.Status = metav1.ConditionTrue
	}
	stateNode.NodeClaim.Status.Conditions = []status.Condition{condition}
	return &karpdisruption.Candidate{StateNode: stateNode}
}

func unfinished(nodeClaim string) v1alpha1.NodeRepair {
	repair := v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: nodeClaim + "-1"}}
	repair.Spec.NodeClaim = v1alpha1.NodeClaimReference{Name: nodeClaim, UID: types.UID(nodeClaim)}
	repair.Spec.NodePool = "pool"
	repair.Status.Phase = v1alpha1.PhaseFencing
	return repair
}

func TestTheMethodAsksForRebootsWhereItHasSomebodyToAsk(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		reboot  Reboot
		want    []karpdisruption.Decision
		wantErr error
	}{
		"what was asked for is told": {
			reboot: func(context.Context, decision.Decision) (bool, error) { return true, nil },
			want:   []karpdisruption.Decision{karpdisruption.RebootDecision},
		},
		"what cannot be asked for any more gives no command": {
			reboot: func(context.Context, decision.Decision) (bool, error) { return false, nil },
		},
		"what breaks gives none": {
			reboot: func(context.Context, decision.Decision) (bool, error) { return false, broken }, wantErr: broken,
		},
		"without anybody to ask it is up to who is given the command": {want: []karpdisruption.Decision{karpdisruption.DeleteDecision}},
	} {
		t.Run(name, func(t *testing.T) {
			in := input("100%", "a")
			in.ExecutorReboots, in.Karpenter.RebootSupported, in.Nodes[0].ProviderReboots = true, true, true
			in.Nodes[0].Verdict.Deciding.Action = v1alpha1.ActionReboot
			plans := &planner{}
			commands, err := NewMethod(cluster{in: in}, plans, NewBoard(nil), nil).RebootBy(test.reboot).
				ComputeCommands(context.Background(), map[string]int{"pool": 1}, candidate("a", true))
			require.ErrorIs(t, err, test.wantErr)
			var decisions []karpdisruption.Decision
			for _, command := range commands {
				decisions = append(decisions, command.Decision())
			}
			require.Equal(t, test.want, decisions)
			require.Empty(t, plans.asked, "a reboot needs no replacement")
		})
	}
}
