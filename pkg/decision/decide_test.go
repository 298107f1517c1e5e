package decision

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// open keeps the correlated-failure gate out of a test that is about something else.
var open = maxUnhealthy("100%")

func TestAdmission(t *testing.T) {
	at := func(options ...func(*diagnosis.Judgement)) nodeOption {
		return judged(policy(open), judgement(options...))
	}
	cost := func(c float64) nodeOption { return func(n *Node) { n.DisruptionCost = c } }
	tests := map[string]struct {
		in        Input
		want      []string // in the order in which they start
		wantOrder []string // of those that are held back
	}{
		"nothing is decided where nothing is sick": {in: input(wells(5))},
		"as many start in a pass as the budget admits": {
			in:        input(append(wells(7), sicks(3, at())...), withPool(budgetOf("2"))),
			want:      []string{"sick-0", "sick-1"},
			wantOrder: []string{"sick-2"},
		},
		"all start where the budget is open": {
			in: input(sicks(4, at())), want: []string{"sick-0", "sick-1", "sick-2", "sick-3"},
		},
		"what is in flight counts": {
			in:   input(append(sicks(2, at()), node("b", func(n *Node) { n.Deleting = true })), withPool(budgetOf("2"))),
			want: []string{"sick-0"}, wantOrder: []string{"sick-1"},
		},
		"each NodePool has its own budget": {
			in: input([]Node{sick("a", at()), sick("b", at()), sick("c", at(), inPool("other")), sick("d", at(), inPool("other"))},
				withPool(budgetOf("1")), func(in *Input) { in.NodePools["other"] = NodePool{Object: pool("other", budgetOf("1"))} }),
			want: []string{"a", "c"}, wantOrder: []string{"b", "d"},
		},
		"two NotReady nodes do not eat the budget of one that is to repair them": {
			in: input([]Node{sick("a", at()), sick("b", at())}, withPool(budgetOf("1"))), want: []string{"a"}, wantOrder: []string{"b"},
		},
		"the higher priority starts first": {
			in:   input([]Node{sick("a", at()), sick("b", at(ranked(5)))}, withPool(budgetOf("1"))),
			want: []string{"b"}, wantOrder: []string{"a"},
		},
		"a wait of more than half an hour outweighs a point": {
			in:   input([]Node{sick("a", at(eligibleAgo(31*time.Minute))), sick("b", at(ranked(1), eligibleAgo(0)))}, withPool(budgetOf("1"))),
			want: []string{"a"}, wantOrder: []string{"b"},
		},
		"a wait of less does not": {
			in:   input([]Node{sick("a", at(eligibleAgo(29*time.Minute))), sick("b", at(ranked(1), eligibleAgo(0)))}, withPool(budgetOf("1"))),
			want: []string{"b"}, wantOrder: []string{"a"},
		},
		"among equals the lower disruption cost starts first": {
			in:   input([]Node{sick("a", at(), cost(2)), sick("b", at(), cost(1))}, withPool(budgetOf("1"))),
			want: []string{"b"}, wantOrder: []string{"a"},
		},
		"among all equals the name decides": {
			in:   input([]Node{sick("b", at()), sick("a", at())}, withPool(budgetOf("1"))),
			want: []string{"a"}, wantOrder: []string{"b"},
		},
		"one that another gate holds back does not take up the budget": {
			in:   input([]Node{sick("a", at(ranked(9)), func(n *Node) { n.Vetoes = []Stop{{What: "x"}} }), sick("b", at())}, withPool(budgetOf("1"))),
			want: []string{"b"}, wantOrder: []string{"a"},
		},
		"nor does one that needs none": {
			in:   input([]Node{sick("a", at(ranked(9)), func(n *Node) { n.Initialized = false }), sick("b", at())}, withPool(budgetOf("1"))),
			want: []string{"a", "b"},
		},
		"replacements of one pass share the room below the limits": {
			in: input(sicks(3, at()), withPool(cpuLimit("20", "12"))), want: []string{"sick-0", "sick-1"}, wantOrder: []string{"sick-2"},
		},
		"a budget that the caller has reckoned is used up by a pass": {
			in:   input(sicks(3, at()), func(in *Input) { in.Budgets = map[string]int{"default": 2} }),
			want: []string{"sick-0", "sick-1"}, wantOrder: []string{"sick-2"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Decide(tt.in)
			require.Equal(t, tt.want, admitted(got))
			var held []string
			for _, d := range got.Decisions[len(tt.want):] {
				held = append(held, d.Node.NodeClaim)
				require.NotEmpty(t, d.Blockers)
			}
			require.Equal(t, tt.wantOrder, held)
		})
	}
}

func TestSmallPoolsAreRepairedWithinTheBudget(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprintf("of %d nodes", size), func(t *testing.T) {
			nodes := append(wells(size-1), sick("a"))
			require.Equal(t, []string{"a"}, admitted(Decide(input(nodes, withPool(budgetOf("1"))))))
			require.Equal(t, []string{"a"}, admitted(Decide(input(nodes, withPool(budgetOf("10%"))))))
			none := Decide(input(nodes, withPool(budgetOf("0"))))
			require.Equal(t, []BlockerReason{BlockerBudget}, reasonsOf(none.Decisions[0].Blockers))
		})
	}
}

func TestWhatIsDone(t *testing.T) {
	rebootedAgo := func(d time.Duration) v1alpha1.NodeRepair {
		return repair("a", v1alpha1.PhaseSucceeded, named(d.String()), committedAgo(d), endedAgo(d), func(r *v1alpha1.NodeRepair) {
			r.Spec.Action = v1alpha1.ActionReboot
		})
	}
	tests := map[string]struct {
		in                 Input
		wantAction         v1alpha1.Action
		wantTerminateFirst bool
		wantNote           string
		wantDrainBound     *time.Duration
	}{
		"a rule that says Replace replaces": {in: input([]Node{sick("a")}), wantAction: v1alpha1.ActionReplace},
		"a rule that says Reboot reboots": {
			in: input([]Node{sick("a", rebooting)}, reboots), wantAction: v1alpha1.ActionReboot,
		},
		"a Karpenter that cannot reboot replaces": {
			in:         input([]Node{sick("a", rebooting)}, reboots, func(in *Input) { in.Karpenter = Karpenter{Version: "1.14.2"} }),
			wantAction: v1alpha1.ActionReplace, wantNote: "Karpenter 1.14.2 cannot reboot nodes (1.15 can), so the node is replaced",
		},
		"an executor that cannot reboot replaces": {
			in:         input([]Node{sick("a", rebooting)}),
			wantAction: v1alpha1.ActionReplace, wantNote: "reboots are not carried out here, so the node is replaced",
		},
		"a node that was rebooted twice in a day is replaced": {
			in:         input([]Node{sick("a", rebooting)}, reboots, withRepairs(rebootedAgo(23*time.Hour), rebootedAgo(2*time.Hour))),
			wantAction: v1alpha1.ActionReplace, wantNote: "2 of 2 reboots within 24h0m0s are used up, so the node is replaced",
		},
		"one whose first reboot is longer ago is rebooted again": {
			in:         input([]Node{sick("a", rebooting)}, reboots, withRepairs(rebootedAgo(25*time.Hour), rebootedAgo(2*time.Hour))),
			wantAction: v1alpha1.ActionReboot,
		},
		"a static NodePool does not keep a node from being rebooted": {
			in: input([]Node{sick("a", rebooting)}, reboots, withPool(static)), wantAction: v1alpha1.ActionReboot,
		},
		"nor do its limits": {
			in: input([]Node{sick("a", rebooting)}, reboots, withPool(cpuLimit("4", "4"))), wantAction: v1alpha1.ActionReboot,
		},
		"where there is room the replacement comes first, whatever the policy allows": {
			in:         input([]Node{sick("a", judged(policy(terminatingFirst), judgement()))}, withPool(cpuLimit("8", "4"))),
			wantAction: v1alpha1.ActionReplace,
		},
		"where there is none the node goes first": {
			in:         input([]Node{sick("a", judged(policy(terminatingFirst), judgement()))}, withPool(cpuLimit("7", "4"))),
			wantAction: v1alpha1.ActionReplace, wantTerminateFirst: true, wantNote: `NodePool "default" is at its limits, so the node goes first`,
		},
		"a node of reserved capacity goes first where its NodePool takes no other": {
			in:         input([]Node{sick("a", reserved, judged(policy(terminatingFirst), judgement()))}, withPool(capacityTypes("reserved"))),
			wantAction: v1alpha1.ActionReplace, wantTerminateFirst: true,
			wantNote: `the node holds a place of a capacity reservation and NodePool "default" takes no other capacity, so it goes first: whether the reservation has a second place for the replacement cannot be seen`,
		},
		"where the NodePool takes other capacity too the replacement comes first": {
			in:         input([]Node{sick("a", reserved, judged(policy(terminatingFirst), judgement()))}, withPool(capacityTypes("reserved", "on-demand"))),
			wantAction: v1alpha1.ActionReplace,
		},
		"so it does where the NodePool says nothing of capacity": {
			in:         input([]Node{sick("a", reserved, judged(policy(terminatingFirst), judgement()))}),
			wantAction: v1alpha1.ActionReplace,
		},
		"and for a node of other capacity": {
			in:         input([]Node{sick("a", judged(policy(terminatingFirst), judgement()))}, withPool(capacityTypes("reserved"))),
			wantAction: v1alpha1.ActionReplace,
		},
		"a node of reserved capacity is replaced first where the policy allows nothing else, and says what may come of it": {
			in:         input([]Node{sick("a", reserved)}, withPool(capacityTypes("reserved"))),
			wantAction: v1alpha1.ActionReplace,
			wantNote:   `the replacement needs a second place in the capacity reservation, which NodePool "default" alone uses: if the reservation is full, set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy`,
		},
		"one whose pods need no new node says nothing of it": {
			in:         input([]Node{sick("a", reserved, func(n *Node) { n.ReschedulablePods = 0 })}, withPool(capacityTypes("reserved"))),
			wantAction: v1alpha1.ActionReplace,
		},
		"launches that failed never let a node go first": {
			in: input([]Node{sick("a", judged(policy(terminatingFirst), judgement()))}, withPool(cpuLimit("8", "4")), withRepairs(
				repair("a", v1alpha1.PhaseFailed, named("1"), endedAgo(3*time.Hour), noReplacementStood),
				repair("a", v1alpha1.PhaseFailed, named("2"), endedAgo(2*time.Hour), noReplacementStood),
			)),
			wantAction: v1alpha1.ActionReplace,
		},
		"the rule's drain bound holds": {
			in:         input([]Node{sick("a", judged(policy(), judgement(bounded(time.Minute))))}),
			wantAction: v1alpha1.ActionReplace, wantDrainBound: new(time.Minute),
		},
		"the NodeClaim's own holds where it is shorter": {
			in: input([]Node{sick("a", judged(policy(), judgement(bounded(time.Minute))), func(n *Node) {
				n.TerminationGracePeriod = new(time.Second)
			})}),
			wantAction: v1alpha1.ActionReplace, wantDrainBound: new(time.Second),
		},
		"and does not where it is longer": {
			in: input([]Node{sick("a", judged(policy(), judgement(bounded(30*time.Minute))), func(n *Node) {
				n.TerminationGracePeriod = new(time.Hour)
			})}),
			wantAction: v1alpha1.ActionReplace, wantDrainBound: new(30 * time.Minute),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := decisionOf(Decide(tt.in), "a")
			require.True(t, got.Admitted, "%v", got.Blockers)
			require.Equal(t, tt.wantAction, got.Action)
			require.Equal(t, tt.wantTerminateFirst, got.TerminateFirst)
			require.Equal(t, tt.wantNote, got.Note)
			require.Equal(t, tt.wantDrainBound, got.DrainBound)
		})
	}
}

// noReplacementStood: each was withdrawn because it did not launch.
func noReplacementStood(r *v1alpha1.NodeRepair) {
	for i := range 3 {
		r.Status.Replacements = append(r.Status.Replacements, v1alpha1.ReplacementStatus{
			NodeClaim: fmt.Sprintf("new-%d", i), WithdrawnAt: r.Status.FinishedAt, Message: "it did not launch within 1m30s",
		})
	}
}

func TestStandaloneAndStaticGoFirst(t *testing.T) {
	standalone := decisionOf(Decide(input([]Node{sick("a", inPool(""), judged(policy(terminatingFirst), judgement()))})), "a")
	require.True(t, standalone.TerminateFirst)
	require.Equal(t, "the NodeClaim belongs to no NodePool, so it goes first", standalone.Note)

	ofStatic := decisionOf(Decide(input([]Node{sick("a", judged(policy(terminatingFirst), judgement()))}, withPool(static))), "a")
	require.True(t, ofStatic.TerminateFirst)
	require.Equal(t, `NodePool "default" is static, so the node goes first`, ofStatic.Note)
}

// A fault of no priority must not wait for ever behind a stream of fresh ones of high priority.
func TestALowPriorityStarvesNobody(t *testing.T) {
	low := judgement(eligibleAgo(0))
	for waited := time.Duration(0); waited <= 6*time.Hour; waited += 10 * time.Minute {
		now := noon.Add(waited)
		high := judgement(ranked(10), func(j *diagnosis.Judgement) { j.EligibleAt = now })
		in := input([]Node{sick("old", judged(policy(), low)), sick("fresh", judged(policy(), high))}, withPool(budgetOf("1")))
		in.Now = now
		want := "fresh"
		if waited > 5*time.Hour {
			want = "old"
		}
		if waited != 5*time.Hour { // the tie, which the name decides
			require.Equal(t, []string{want}, admitted(Decide(in)), "after %s", waited)
		}
	}
}

// What a pass says of those that it holds back must be what the next one finds, or conditions would flap.
func TestThoseHeldBackAreExplainedByWhatThePassLeaves(t *testing.T) {
	vetoed := func(n *Node) { n.Vetoes = []Stop{{What: "annotation"}} }
	in := input([]Node{sick("a", judged(policy(open), judgement(ranked(5))), vetoed), sick("b", judged(policy(open), judgement()))}, withPool(budgetOf("1")))
	got := Decide(in)
	require.Equal(t, []string{"b"}, admitted(got))
	require.Equal(t, []BlockerReason{BlockerVeto, BlockerBudget}, reasonsOf(decisionOf(got, "a").Blockers))

	in.Repairs = append(in.Repairs, repair("b", ""))
	require.Equal(t, []BlockerReason{BlockerVeto, BlockerBudget}, reasonsOf(decisionOf(Decide(in), "a").Blockers))
}

func TestNextChangeIsTheFirstOfTheBlockers(t *testing.T) {
	in := input([]Node{
		sick("a", judged(policy(), judgement(eligibleAgo(-time.Hour)))),
		sick("b", judged(policy(), judgement(eligibleAgo(-time.Minute)))),
		sick("c"),
	}, withPool(budgets(karpv1.Budget{Nodes: "100%"})))
	require.Equal(t, noon.Add(time.Minute), Decide(in).NextChange)
}

func TestDecideLeavesItsInputAlone(t *testing.T) {
	in := input(append(wells(2), sicks(3)...), withPool(cpuLimit("20", "8")), withRepairs(repair("well-0", v1alpha1.PhaseProvisioning)))
	before := slices.Clone(in.Nodes)
	poolBefore := in.NodePools["default"].Object.DeepCopy()
	Decide(in)
	require.Equal(t, before, in.Nodes)
	require.Equal(t, poolBefore, in.NodePools["default"].Object)
}
