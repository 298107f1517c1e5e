package decision

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Each row re-checks the repair of node "a", which waits for its replacement.
func TestRecheck(t *testing.T) {
	mine := repair("a", v1alpha1.PhaseWaiting, committedAgo(10*time.Minute))
	of := func(a Node, options ...inputOption) Input {
		return input([]Node{a}, append([]inputOption{withPool(budgetOf("1")), withRepairs(mine)}, options...)...)
	}
	with := func(others ...Node) inputOption { return func(in *Input) { in.Nodes = append(in.Nodes, others...) } }
	tests := map[string]struct {
		in   Input
		want []BlockerReason
	}{
		"a repair whose node is still sick goes on":    {in: of(sick("a"))},
		"a node that recovered is let go":              {in: of(node("a", judged(policy()))), want: []BlockerReason{BlockerRecovered}},
		"a node that recovered under no policy is too": {in: of(node("a")), want: []BlockerReason{BlockerRecovered}},
		"a node whose other fault is still tolerated is let go": {
			in: of(sick("a", judged(policy(), judgement(eligibleAgo(-time.Minute))))), want: []BlockerReason{BlockerRecovered},
		},
		"unless a person asked for the repair": {
			in: of(sick("a", judged(policy(), judgement(requesting), judgement(eligibleAgo(-time.Minute))))),
		},
		"a node whose fault is now only to be shown is let go": {
			in: of(node("a", judged(policy(), judgement(acting(v1alpha1.ActionNone))))), want: []BlockerReason{BlockerRecovered},
		},
		"a node whose policy is gone is let go": {
			in: of(node("a", judged(nil, judgement(ruleless)))), want: []BlockerReason{BlockerNoPolicy},
		},
		"a paused policy lets go": {
			in: of(sick("a", judged(policy(inMode(v1alpha1.ModePaused)), judgement()))), want: []BlockerReason{BlockerPaused},
		},
		"a policy in dry run lets go": {
			in: of(sick("a", judged(policy(inMode(v1alpha1.ModeDryRun)), judgement()))), want: []BlockerReason{BlockerDryRun},
		},
		"conflicting policies let go": {
			in:   of(sick("a", judged(nil, judgement(ruleless)), func(n *Node) { n.Verdict.Conflict = []string{"a", "b"} })),
			want: []BlockerReason{BlockerPolicyConflict},
		},
		"a policy that cannot be used lets go": {
			in:   of(sick("a", judged(policy(), judgement(ruleless)), func(n *Node) { n.Verdict.Invalid = "no rules" })),
			want: []BlockerReason{BlockerPolicyInvalid},
		},
		"a veto lets go": {
			in: of(sick("a", func(n *Node) { n.Vetoes = []Stop{{What: "annotation"}} })), want: []BlockerReason{BlockerVeto},
		},
		"several reasons are all told": {
			in:   of(node("a", judged(policy(inMode(v1alpha1.ModePaused))), func(n *Node) { n.Vetoes = []Stop{{What: "annotation"}} })),
			want: []BlockerReason{BlockerRecovered, BlockerVeto},
		},
		"a NodePool that is gone lets go": {
			in: of(sick("a"), func(in *Input) { delete(in.NodePools, "default") }), want: []BlockerReason{BlockerNodePoolMissing},
		},
		"something unreadable lets go": {
			in: of(sick("a", func(n *Node) { n.Unreadable = []string{"its pods"} })), want: []BlockerReason{BlockerUnreadable},
		},
		"a NodeClaim that is not there lets go":  {in: of(sick("b")), want: []BlockerReason{BlockerUnreadable}},
		"its own place in the budget is its own": {in: of(sick("a"), with(node("b")))},
		"a node that Karpenter took meanwhile comes first": {
			in: of(sick("a"), with(node("b", func(n *Node) { n.KarpenterDisrupting = true }))), want: []BlockerReason{BlockerBudget},
		},
		"a budget that was closed meanwhile lets go": {in: of(sick("a"), withPool(budgetOf("0"))), want: []BlockerReason{BlockerBudget}},
		"a budget that cannot be read any more lets go": {
			in: of(sick("a"), withPool(budgets(karpv1.Budget{
				Nodes: "1", Schedule: new("at noon"), Duration: &metav1.Duration{Duration: time.Hour},
			}))), want: []BlockerReason{BlockerBudgetInvalid},
		},
		"an earlier repair of ours comes first": {
			in:   of(sick("a"), with(sick("b")), withRepairs(repair("b", v1alpha1.PhaseWaiting, committedAgo(11*time.Minute)))),
			want: []BlockerReason{BlockerBudget},
		},
		"a later one does not": {
			in: of(sick("a"), with(sick("b")), withRepairs(repair("b", v1alpha1.PhaseWaiting, committedAgo(9*time.Minute)))),
		},
		"unless its node is already leaving": {
			in: of(sick("a"), with(sick("b", func(n *Node) { n.Deleting = true })),
				withRepairs(repair("b", v1alpha1.PhaseTerminating, committedAgo(9*time.Minute)))),
			want: []BlockerReason{BlockerBudget},
		},
		"one whose sick node is gone does not": {
			in: of(sick("a"), withRepairs(repair("b", v1alpha1.PhaseVerifying, committedAgo(11*time.Minute)))),
		},
		"a node that is not Initialized needs no budget": {
			in: of(sick("a", func(n *Node) { n.Initialized = false }), withPool(budgetOf("0"))),
		},
		"limits, readiness, launches and failures are not asked again": {
			in: of(sick("a"), withPool(budgetOf("1"), cpuLimit("1", "1"), unready, static), func(in *Input) { in.Launching = 99 },
				withRepairs(ended(0, v1alpha1.PhaseFailed, v1alpha1.PhaseFailed)...)),
		},
		"nor is a suspect domain": {
			in: of(sick("a"), withPool(budgetOf("1")), with(sicks(5)...)),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, reasonsOf(Recheck(tt.in, "uid-a")))
		})
	}
}

func TestRecheckSaysWhatIsLeft(t *testing.T) {
	tolerated := input([]Node{sick("a", judged(policy(), judgement(eligibleAgo(-time.Minute))))}, withRepairs(repair("a", v1alpha1.PhaseWaiting)))
	require.Equal(t, []Blocker{{
		Reason:  BlockerRecovered,
		Message: "nothing that is left of the node's findings is past its toleration (InterfaceNotUp eth0 until 2026-01-02T12:01:00Z)",
		RetryAt: noon.Add(time.Minute),
	}}, Recheck(tolerated, "uid-a"))

	shown := input([]Node{node("a", judged(policy(), judgement(acting(v1alpha1.ActionNone))))})
	require.Equal(t, []Blocker{{
		Reason: BlockerRecovered, Message: `RepairPolicy "default" asks for no repair of what is left: InterfaceNotUp eth0`,
	}}, Recheck(shown, "uid-a"))
}

// When a budget shrinks below what is in flight, as many repairs go on as it still admits, not none.
func TestAShrunkenBudgetKeepsTheEarliest(t *testing.T) {
	in := input(sicks(3), withPool(budgetOf("2")))
	for i, age := range []time.Duration{time.Minute, 3 * time.Minute, 3 * time.Minute} {
		in.Repairs = append(in.Repairs, repair([]string{"sick-0", "sick-1", "sick-2"}[i], v1alpha1.PhaseWaiting, committedAgo(age)))
	}
	require.NotEmpty(t, Recheck(in, "uid-sick-0"))
	require.Empty(t, Recheck(in, "uid-sick-1"))
	require.Empty(t, Recheck(in, "uid-sick-2"))
}
