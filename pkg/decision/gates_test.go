package decision

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Each row decides about the one sick node "a"; what else stands in the Input does not decide.
func TestGates(t *testing.T) {
	daily := func(nodes, schedule string, duration time.Duration) karpv1.Budget {
		return karpv1.Budget{Nodes: nodes, Schedule: &schedule, Duration: &metav1.Duration{Duration: duration}}
	}
	paused := policy(inMode(v1alpha1.ModePaused))
	conflicting := func(n *Node) {
		n.Verdict = verdict(nil, judgement(ruleless))
		n.Verdict.Conflict = []string{"a", "b"}
	}
	invalid := func(n *Node) {
		n.Verdict = verdict(policy(), judgement(ruleless))
		n.Verdict.Invalid = "it has no rules"
	}
	one := func(options ...nodeOption) []Node { return []Node{sick("a", options...)} }
	withOthers := func(others ...Node) []Node { return append(one(), others...) }
	type want = []Blocker
	tests := map[string]struct {
		in   Input
		want want // nothing where the node is repaired
	}{
		"a sick node with nothing in its way is repaired": {in: input(one())},

		"a fault that is still tolerated waits": {
			in: input(one(judged(policy(), judgement(eligibleAgo(-time.Minute))))),
			want: want{{
				Reason:   BlockerTolerating,
				Message:  `InterfaceNotUp eth0 since 2026-01-02T11:00:00Z is tolerated until 2026-01-02T12:01:00Z by rule "network" of RepairPolicy "default"`,
				RetryAt:  noon.Add(time.Minute),
				LiftedBy: "annotate the Node with autorepair.sh/repair=Replace to repair it at once",
			}},
		},
		"a fault at the very end of its toleration does not": {in: input(one(judged(policy(), judgement(eligibleAgo(0)))))},
		"nor does one for which a person asked for the repair": {
			in: input(one(judged(policy(), judgement(eligibleAgo(-time.Minute))), func(n *Node) { n.Requested = true })),
		},
		"a request itself is not tolerated": {in: input(one(judged(policy(), judgement(requesting))))},

		"a node that no policy selects waits for one": {
			in: input(one(judged(nil, judgement(ruleless)))),
			want: want{{
				Reason: BlockerNoPolicy, Message: "no RepairPolicy selects the NodeClaim",
				LiftedBy: "create a RepairPolicy whose nodeClaimSelector matches the NodeClaim's labels",
			}},
		},
		"a fault that no rule matches waits for one": {
			in: input(one(judged(policy(), judgement(ruleless)))),
			want: want{{
				Reason: BlockerNoPolicy, Message: `no rule of RepairPolicy "default" matches InterfaceNotUp eth0`,
				LiftedBy: `add a rule to RepairPolicy "default" that matches it, with action: None to only show it`,
			}},
		},
		"a fault that no rule matches does not hold up another": {
			in: input(one(judged(policy(), judgement(), judgement(ruleless)))),
		},
		"policies of equal weight block": {
			in: input(one(conflicting)),
			want: want{{
				Reason: BlockerPolicyConflict, Message: "the RepairPolicies a, b have equal weight and all select the NodeClaim",
				LiftedBy: "give one of them a higher weight, or let them select different NodeClaims",
			}},
		},
		"a policy that cannot be used blocks": {
			in: input(one(invalid)),
			want: want{{
				Reason: BlockerPolicyInvalid, Message: `RepairPolicy "default" cannot be used: it has no rules`,
				LiftedBy: `correct RepairPolicy "default"`,
			}},
		},
		"a paused policy blocks": {
			in: input(one(judged(paused, judgement()))),
			want: want{{
				Reason: BlockerPaused, Message: `RepairPolicy "default" is Paused`, LiftedBy: resume,
			}},
		},
		"a policy that is paused until a time says so": {
			in: input(one(judged(policy(inMode(v1alpha1.ModePaused), pausedUntil("2026-01-02T13:00:00Z")), judgement()))),
			want: want{{
				Reason: BlockerPaused, Message: `RepairPolicy "default" is Paused until 2026-01-02T13:00:00Z`, RetryAt: noon.Add(time.Hour), LiftedBy: resume,
			}},
		},
		"a pause of a policy lifts itself": {
			in: input(one(judged(policy(inMode(v1alpha1.ModePaused), pausedUntil("2026-01-02T12:00:00Z")), judgement()))),
		},
		"a pause of a policy whose end cannot be read has none": {
			in: input(one(judged(policy(inMode(v1alpha1.ModePaused), pausedUntil("tomorrow")), judgement()))),
			want: want{{
				Reason:   BlockerPaused,
				Message:  `RepairPolicy "default" is Paused; pausedUntil "tomorrow" is no time, so it has no end: write for example "2030-01-31T18:00:00Z"`,
				LiftedBy: resume,
			}},
		},
		"a RepairPause stops everything": {
			in: input(one(), func(in *Input) {
				in.Pauses = []Stop{
					{What: `RepairPause "over"`, Until: ago(0)},
					{What: `RepairPause "upgrade"`, By: "kubectl-create", Why: "ask Ann", Until: noon.Add(time.Hour), LiftedBy: "kubectl delete repairpause upgrade"},
				}
			}),
			want: want{{
				Reason:   BlockerAllPaused,
				Message:  `all repairs are stopped by RepairPause "upgrade" until 2026-01-02T13:00:00Z, set by kubectl-create: ask Ann`,
				RetryAt:  noon.Add(time.Hour),
				LiftedBy: "kubectl delete repairpause upgrade",
			}},
		},
		"a RepairPause that has ended stops nothing": {
			in: input(one(), func(in *Input) { in.Pauses = []Stop{{What: "x", Until: ago(time.Second)}} }),
		},
		"a RepairPause of the node's zone stops its repair": {
			in: input(one(func(n *Node) { n.Zone = "zone-b" }), func(in *Input) {
				in.Pauses = []Stop{{What: `RepairPause "shift"`, Zones: []string{"zone-a", "zone-b"}, Until: noon.Add(time.Hour), LiftedBy: "x"}}
			}),
			want: want{{
				Reason:  BlockerZonePaused,
				Message: `repairs in zone zone-b are stopped by RepairPause "shift" until 2026-01-02T13:00:00Z`,
				RetryAt: noon.Add(time.Hour), LiftedBy: "x",
			}},
		},
		"a RepairPause of another zone stops nothing here": {
			in: input(one(func(n *Node) { n.Zone = "zone-c" }), func(in *Input) {
				in.Pauses = []Stop{{What: "x", Zones: []string{"zone-a", "zone-b"}}}
			}),
		},
		"a node whose zone is not known is in none that is paused": {
			in: input(one(), func(in *Input) { in.Pauses = []Stop{{What: "x", Zones: []string{"zone-a"}}} }),
		},
		"a pause of the NodePool blocks": {
			in: input(one(), func(in *Input) {
				in.NodePools["default"] = NodePool{Object: pool("default"), Pauses: []Stop{{What: "annotation autorepair.sh/pause on NodePool default", LiftedBy: "x"}}}
			}),
			want: want{{
				Reason: BlockerNodePoolPaused, Message: "repairs of the NodePool are stopped by annotation autorepair.sh/pause on NodePool default", LiftedBy: "x",
			}},
		},
		"a pause of another NodePool does not": {
			in: input(one(), func(in *Input) {
				in.NodePools["other"] = NodePool{Object: pool("other"), Pauses: []Stop{{What: "x"}}}
			}),
		},
		"a veto that has ended is none": {
			in: input(one(func(n *Node) { n.Vetoes = []Stop{{What: "x", Until: ago(time.Second)}} })),
		},
		"a policy in dry run says what it would do": {
			in: input(one(judged(policy(inMode(v1alpha1.ModeDryRun)), judgement()))),
			want: want{{
				Reason:   BlockerDryRun,
				Message:  `RepairPolicy "default" is in mode DryRun: it would replace the node for InterfaceNotUp eth0 once nothing else blocks it`,
				LiftedBy: `set mode: Enforce in RepairPolicy "default"`,
			}},
		},
		"a policy that enforces does not": {in: input(one(judged(policy(inMode(v1alpha1.ModeEnforce)), judgement())))},

		"a veto blocks": {
			in: input(one(func(n *Node) {
				n.Vetoes = []Stop{{What: "annotation karpenter.sh/do-not-repair on Node a", By: "kubectl-annotate", LiftedBy: "kubectl annotate node a karpenter.sh/do-not-repair-"}}
			})),
			want: want{{
				Reason: BlockerVeto, Message: "vetoed by annotation karpenter.sh/do-not-repair on Node a, set by kubectl-annotate",
				LiftedBy: "kubectl annotate node a karpenter.sh/do-not-repair-",
			}},
		},
		"a veto on another node does not": {
			in: input(withOthers(node("b", func(n *Node) { n.Vetoes = []Stop{{What: "annotation"}} }))),
		},

		"a NodeClaim without a Node is left to Karpenter": {
			in: input(one(func(n *Node) { n.NodeName, n.Initialized = "", false })),
			want: want{{
				Reason: BlockerNoNode, Message: "the NodeClaim has no Node yet; Karpenter removes it if it does not register in time",
			}},
		},
		"a node that registered and never became Initialized is repaired": {
			in: input(one(func(n *Node) { n.Initialized = false })),
		},

		"a standalone NodeClaim is left alone": {
			in: input(one(inPool(""))),
			want: want{{
				Reason: BlockerStandalone, Message: "the NodeClaim belongs to no NodePool, so there is no template for a replacement",
				LiftedBy: "set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy, if it may go without one",
			}},
		},
		"a standalone NodeClaim goes first where the policy allows it": {
			in: input(one(inPool(""), judged(policy(terminatingFirst), judgement()))),
		},
		"standalone NodeClaims go one at a time": {
			in: input(append(one(inPool(""), judged(policy(terminatingFirst), judgement())),
				node("b", inPool(""), func(n *Node) { n.Deleting = true }))),
			want: want{{
				Reason:  BlockerBudget,
				Message: "what is allowed for NodeClaims without a NodePool admits 1 disruption for reason Unhealthy, 1 in flight (node-b: deleting)",
			}},
		},
		"a NodePool that cannot be found blocks": {
			in:   input(one(inPool("gone"))),
			want: want{{Reason: BlockerNodePoolMissing, Message: `NodePool "gone" cannot be found`}},
		},
		"a NodePool that is not Ready blocks": {
			in:   input(one(), withPool(unready)),
			want: want{{Reason: BlockerNodePoolNotReady, Message: `NodePool "default" is not Ready: NodeClassReady=False`}},
		},
		"a NodePool of which it is unknown blocks": {
			in:   input(one(), withPool(unknownReady)),
			want: want{{Reason: BlockerNodePoolNotReady, Message: `NodePool "default" is not Ready: NodeClassReady=Unknown`}},
		},
		"a NodePool that Karpenter has not looked at blocks": {
			in:   input(one(), withPool(unseen)),
			want: want{{Reason: BlockerNodePoolNotReady, Message: `NodePool "default" is not Ready: Karpenter has not said so yet`}},
		},
		"a NodePool whose nodes do not register blocks": {
			in: input(one(), withPool(notRegistering)),
			want: want{{
				Reason:  BlockerNodePoolNotReady,
				Message: `new nodes of NodePool "default" do not register (NodeRegistrationHealthy is False): 3 of 3 did not register`,
			}},
		},
		"a NodePool of which that is unknown does not": {in: input(one(), withPool(registrationUnknown))},
		"a static NodePool is left alone": {
			in: input(one(), withPool(static)),
			want: want{{
				Reason: BlockerNodePoolStatic, Message: `NodePool "default" is static (replicas: 3), so no replacement can stand beside the node`,
				LiftedBy: "set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy",
			}},
		},
		"in a static NodePool the node goes first where the policy allows it": {
			in: input(one(judged(policy(terminatingFirst), judgement())), withPool(static)),
		},
		"a NodePool at its limits has no room for a replacement": {
			in: input(one(), withPool(cpuLimit("11", "8"))),
			want: want{{
				Reason:   BlockerNodePoolLimits,
				Message:  `NodePool "default" has no room for a replacement: limit of cpu is 11, and with one it would use 12`,
				LiftedBy: `raise spec.limits of NodePool "default", or set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy`,
			}},
		},
		"a NodePool whose limits are just enough has": {in: input(one(), withPool(cpuLimit("12", "8")))},
		"a limit of what the node does not have does not matter": {
			in: input(one(), withPool(func(p *karpv1.NodePool) { p.Spec.Limits = karpv1.Limits{"nvidia.com/gpu": resource.MustParse("0")} })),
		},
		"a limit of nodes counts the replacement as one": {
			in: input(one(), withPool(func(p *karpv1.NodePool) {
				p.Spec.Limits = karpv1.Limits{resourceNodes: resource.MustParse("1")}
				p.Status.Resources = corev1.ResourceList{resourceNodes: resource.MustParse("1")}
			})),
			want: want{{
				Reason:   BlockerNodePoolLimits,
				Message:  `NodePool "default" has no room for a replacement: limit of nodes is 1, and with one it would use 2`,
				LiftedBy: `raise spec.limits of NodePool "default", or set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy`,
			}},
		},
		"nodes that Karpenter has not counted yet take up room": {
			in: input(withOthers(node("b")), withPool(cpuLimit("11", "0"))),
			want: want{{
				Reason:   BlockerNodePoolLimits,
				Message:  `NodePool "default" has no room for a replacement: limit of cpu is 11, and with one it would use 12`,
				LiftedBy: `raise spec.limits of NodePool "default", or set replacement.strategy: TerminateFirstWhereNeeded in the RepairPolicy`,
			}},
		},
		"a replacement that is on its way takes up room": {
			in: input(withOthers(node("b")), withPool(cpuLimit("12", "8")), withRepairs(repair("b", v1alpha1.PhaseProvisioning))),
			want: want{{
				Reason:   BlockerNodePoolLimits,
				Message:  `NodePool "default" has no room for a replacement: limit of cpu is 12, and with one it would use 16; there will be room once the nodes that are leaving are gone`,
				LiftedBy: `raise spec.limits of NodePool "default", or wait`,
			}},
		},
		"nor does the node go first for it, where the policy allows that": {
			in: input(append([]Node{sick("a", judged(policy(terminatingFirst), judgement()))}, node("b")), withPool(cpuLimit("12", "8")),
				withRepairs(repair("b", v1alpha1.PhaseProvisioning))),
			want: want{{
				Reason:   BlockerNodePoolLimits,
				Message:  `NodePool "default" has no room for a replacement: limit of cpu is 12, and with one it would use 16; there will be room once the nodes that are leaving are gone`,
				LiftedBy: `raise spec.limits of NodePool "default", or wait`,
			}},
		},
		"nor while somebody else's node leaves": {
			in: input(append([]Node{sick("a", judged(policy(terminatingFirst), judgement()))}, node("b", func(n *Node) { n.Deleting = true })), withPool(cpuLimit("8", "8"))),
			want: want{{
				Reason:   BlockerNodePoolLimits,
				Message:  `NodePool "default" has no room for a replacement: limit of cpu is 8, and with one it would use 12; there will be room once the nodes that are leaving are gone`,
				LiftedBy: `raise spec.limits of NodePool "default", or wait`,
			}},
		},
		"a pool at its limits stays so while another node goes first": {
			in: input(append([]Node{sick("a", judged(policy(terminatingFirst), judgement()))}, node("b", func(n *Node) { n.Deleting = true })), withPool(cpuLimit("8", "8")),
				withRepairs(repair("b", v1alpha1.PhaseTerminating, func(r *v1alpha1.NodeRepair) { r.Spec.TerminateFirst = true }))),
		},
		"one that Karpenter counts already does not take it up twice": {
			in: input(withOthers(node("b")), withPool(cpuLimit("12", "8")), withRepairs(repair("b", v1alpha1.PhaseWaiting, func(r *v1alpha1.NodeRepair) {
				r.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: "new", LaunchedAt: metaAgo(time.Minute)}}
			}))),
		},
		"a node whose pods need no new node does not need the room": {
			in: input(one(func(n *Node) { n.ReschedulablePods = 0 }), withPool(cpuLimit("8", "8"))),
		},
		"at the limits the node goes first where the policy allows it": {
			in: input(one(judged(policy(terminatingFirst), judgement())), withPool(cpuLimit("8", "8"))),
		},

		"a node that went first holds the budget until its place is refilled": {
			in: input(one(), withPool(budgetOf("1")), withRepairs(repair("gone", v1alpha1.PhaseReleasing, func(r *v1alpha1.NodeRepair) { r.Spec.TerminateFirst = true }))),
			want: want{{
				Reason:   BlockerBudget,
				Message:  `budget of NodePool "default" (nodes: "1") admits 1 disruption for reason Unhealthy, 1 in flight (gone: repair repair-gone)`,
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"and not any longer": {
			in: input(one(), withPool(budgetOf("1")), withRepairs(repair("gone", v1alpha1.PhaseVerifying, func(r *v1alpha1.NodeRepair) { r.Spec.TerminateFirst = true }))),
		},

		"a budget of zero blocks": {
			in: input(one(), withPool(budgetOf("0"))),
			want: want{{
				Reason:   BlockerBudget,
				Message:  `budget of NodePool "default" (nodes: "0") admits no disruption for reason Unhealthy`,
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"a budget of zero for other reasons does not": {
			in: input(one(), withPool(budgets(karpv1.Budget{Nodes: "0", Reasons: []karpv1.DisruptionReason{karpv1.DisruptionReasonDrifted}}))),
		},
		"the narrowest of several budgets counts": {
			in: input(one(), withPool(budgets(
				karpv1.Budget{Nodes: "5"}, karpv1.Budget{Nodes: "0", Reasons: []karpv1.DisruptionReason{karpv1.DisruptionReasonUnhealthy}},
			))),
			want: want{{
				Reason:   BlockerBudget,
				Message:  `budget of NodePool "default" (nodes: "0") admits no disruption for reason Unhealthy`,
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"a window of zero that is open now blocks until it closes": {
			in: input(one(), withPool(budgets(daily("0", "30 11 * * *", time.Hour)))),
			want: want{{
				Reason:   BlockerBudget,
				Message:  `budget of NodePool "default" (nodes: "0", schedule: "30 11 * * *" UTC, duration: 1h0m0s) admits no disruption for reason Unhealthy`,
				RetryAt:  noon.Add(30 * time.Minute),
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"one that stays open longer is looked at again at the full hour": {
			in: input(one(), withPool(budgets(daily("0", "0 9 * * *", 8*time.Hour)))),
			want: want{{
				Reason:   BlockerBudget,
				Message:  `budget of NodePool "default" (nodes: "0", schedule: "0 9 * * *" UTC, duration: 8h0m0s) admits no disruption for reason Unhealthy`,
				RetryAt:  noon.Add(time.Hour),
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"a window of zero that is closed now does not": {
			in: input(one(), withPool(budgets(daily("0", "0 1 * * *", time.Hour)))),
		},
		"a schedule that cannot be read blocks, even of a budget for another reason": {
			in: input(one(), withPool(budgets(func() karpv1.Budget {
				b := daily("100%", "at noon", time.Hour)
				b.Reasons = []karpv1.DisruptionReason{karpv1.DisruptionReasonEmpty}
				return b
			}()))),
			want: want{{
				Reason: BlockerBudgetInvalid,
				Message: `budget of NodePool "default" (nodes: "100%", schedule: "at noon" UTC, duration: 1h0m0s) cannot be read: ` +
					`expected exactly 5 fields, found 2: [at noon]`,
				LiftedBy: `correct spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"a number of nodes that cannot be read blocks": {
			in: input(one(), withPool(budgetOf("some"))),
			want: want{{
				Reason: BlockerBudgetInvalid,
				Message: `budget of NodePool "default" (nodes: "some") cannot be read: ` +
					`invalid value for IntOrString: invalid type: string is not a percentage`,
				LiftedBy: `correct spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"a schedule that cannot be read blocks what needs no budget as well": {
			in: input(one(func(n *Node) { n.Initialized = false }), withPool(budgets(daily("100%", "at noon", time.Hour)))),
			want: want{{
				Reason: BlockerBudgetInvalid,
				Message: `budget of NodePool "default" (nodes: "100%", schedule: "at noon" UTC, duration: 1h0m0s) cannot be read: ` +
					`expected exactly 5 fields, found 2: [at noon]`,
				LiftedBy: `correct spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"a repair in flight takes up the budget": {
			in: input(withOthers(node("b")), withPool(budgetOf("1")), withRepairs(repair("b", v1alpha1.PhaseWaiting))),
			want: want{{
				Reason:   BlockerBudget,
				Message:  `budget of NodePool "default" (nodes: "1") admits 1 disruption for reason Unhealthy, 1 in flight (node-b: repair repair-b)`,
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"so does one that is only committed": {
			in: input(withOthers(node("b")), withPool(budgetOf("1")), withRepairs(repair("b", ""))),
			want: want{{
				Reason:   BlockerBudget,
				Message:  `budget of NodePool "default" (nodes: "1") admits 1 disruption for reason Unhealthy, 1 in flight (node-b: repair repair-b)`,
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"a repair whose node is gone does not": {
			in: input(one(), withPool(budgetOf("1")), withRepairs(repair("b", v1alpha1.PhaseVerifying))),
		},
		"a repair that has ended does not": {
			in: input(withOthers(node("b")), withPool(budgetOf("1")), withRepairs(repair("b", v1alpha1.PhaseCanceled, endedAgo(time.Minute)))),
		},
		"nodes that Karpenter deletes, reboots and disrupts take up the budget, each once": {
			in: input(withOthers(append(wells(3),
				node("b", func(n *Node) { n.Deleting, n.KarpenterDisrupting = true, true }),
				node("c", func(n *Node) { n.Rebooting, n.Initialized = true, false }),
				node("d", func(n *Node) { n.KarpenterDisrupting = true }))...,
			), withPool(budgetOf("3")), withRepairs(repair("b", v1alpha1.PhaseTerminating))),
			want: want{{
				Reason: BlockerBudget,
				Message: `budget of NodePool "default" (nodes: "3") admits 3 disruptions for reason Unhealthy, 3 in flight ` +
					`(node-b: repair repair-b, node-c: rebooting, node-d: disrupted by Karpenter)`,
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"nodes whose instance is terminated do not": {
			in: input(withOthers(node("b", func(n *Node) { n.Deleting, n.Terminated = true, true })), withPool(budgetOf("1"))),
		},
		"nodes that are not Initialized do not": {
			in: input(withOthers(node("b", func(n *Node) { n.Deleting, n.Initialized = true, false })), withPool(budgetOf("1"))),
		},
		"nodes of another NodePool do not": {
			in: input(withOthers(node("b", inPool("other"), func(n *Node) { n.Deleting = true })), withPool(budgetOf("1"))),
		},
		"a sick node that is not Initialized needs no budget": {
			in: input(one(func(n *Node) { n.Initialized = false }), withPool(budgetOf("0"))),
		},
		"a share is of the Initialized nodes, rounded up as Karpenter does": {
			in: input(append(one(), wells(9)...), withPool(budgetOf("1%"))),
		},
		"a budget that the caller has reckoned counts": {
			in: input(one(), func(in *Input) { in.Budgets = map[string]int{"default": 0} }),
			want: want{{
				Reason: BlockerBudget, Message: `the budgets of NodePool "default" admit no further disruption for reason Unhealthy`,
				LiftedBy: `raise the budget for reason Unhealthy in spec.disruption.budgets of NodePool "default"`,
			}},
		},
		"and counts alone": {
			in: input(one(), withPool(budgetOf("0")), func(in *Input) { in.Budgets = map[string]int{"default": 1} }),
		},
		"but does not excuse one that cannot be read": {
			in: input(one(), withPool(budgets(daily("100%", "at noon", time.Hour))), func(in *Input) { in.Budgets = map[string]int{"default": 1} }),
			want: want{{
				Reason: BlockerBudgetInvalid,
				Message: `budget of NodePool "default" (nodes: "100%", schedule: "at noon" UTC, duration: 1h0m0s) cannot be read: ` +
					`expected exactly 5 fields, found 2: [at noon]`,
				LiftedBy: `correct spec.disruption.budgets of NodePool "default"`,
			}},
		},

		"pods that may not be disrupted block without a drain bound": {
			in: input(one(func(n *Node) {
				n.PodBlockers = []string{"PodDisruptionBudget web/web allows no disruption of web/web-0", "b", "c", "d"}
			})),
			want: want{{
				Reason: BlockerPods,
				Message: "pods may not be disrupted, and no drain bound ends the wait: " +
					"PodDisruptionBudget web/web allows no disruption of web/web-0, b, c and 1 more",
				LiftedBy: "set drainBound in the rule of the RepairPolicy, or let the pods be disrupted",
			}},
		},
		"they do not with the rule's drain bound": {
			in: input(one(judged(policy(), judgement(bounded(time.Minute))), func(n *Node) { n.PodBlockers = []string{"pod"} })),
		},
		"nor with the NodeClaim's own": {
			in: input(one(func(n *Node) { n.PodBlockers = []string{"pod"}; n.TerminationGracePeriod = new(time.Hour) })),
		},

		"failures in a row pause the NodePool": {
			in: input(one(), withRepairs(ended(90*time.Second, v1alpha1.PhaseSucceeded, v1alpha1.PhaseFailed, v1alpha1.PhaseFailed)...)),
			want: want{{
				Reason: BlockerBackoff, Message: `the last 2 repairs of NodePool "default" failed: the next starts at 2026-01-02T12:00:30Z`,
				RetryAt: noon.Add(30 * time.Second),
			}},
		},
		"the pause ends": {
			in: input(one(), withRepairs(ended(2*time.Minute, v1alpha1.PhaseFailed, v1alpha1.PhaseFailed)...)),
		},
		"a success ends it at once": {
			in: input(one(), withRepairs(ended(time.Second, v1alpha1.PhaseFailed, v1alpha1.PhaseSucceeded)...)),
		},
		"repairs that were canceled or yielded prove nothing": {
			in: input(one(), withRepairs(ended(time.Second, v1alpha1.PhaseCanceled, v1alpha1.PhaseYielded)...)),
		},
		"failures of another NodePool do not pause this one": {
			in: input(one(), withRepairs(repair("x", v1alpha1.PhaseFailed, endedAgo(time.Second), func(r *v1alpha1.NodeRepair) { r.Spec.NodePool = "other" }))),
		},

		"too many unlaunched replacements block": {
			in:   input(one(), func(in *Input) { in.Launching = 5 }),
			want: want{{Reason: BlockerLaunching, Message: "as many replacements as may be unlaunched at a time (5) have not been launched yet"}},
		},
		"one fewer do not": {in: input(one(), func(in *Input) { in.Launching = 4 })},
		"the policy may allow more": {
			in: input(one(judged(policy(func(p *v1alpha1.RepairPolicy) { p.Spec.Replacement.MaxLaunching = new(int32(9)) }), judgement())),
				func(in *Input) { in.Launching = 5 }),
		},
		"a node that needs no replacement does not wait for them": {
			in: input(one(func(n *Node) { n.ReschedulablePods = 0 }), func(in *Input) { in.Launching = 5 }),
		},

		"a node that Karpenter disrupts is left to it": {
			in:   input(one(func(n *Node) { n.KarpenterDisrupting = true })),
			want: want{{Reason: BlockerKarpenterActing, Message: "Karpenter itself is disrupting the node"}},
		},
		"a node that Karpenter reboots is left to it": {
			in:   input(one(func(n *Node) { n.Rebooting = true })),
			want: want{{Reason: BlockerKarpenterActing, Message: "Karpenter itself is rebooting the node"}},
		},
		"a node that Karpenter has rebooted gets the time in which what was found before may stand": {
			in: input(one(func(n *Node) { n.SettlesUntil = noon.Add(time.Minute) })),
			want: want{{
				Reason: BlockerKarpenterActing, RetryAt: noon.Add(time.Minute),
				Message: "Karpenter has rebooted the node: what was found before may stand until 2026-01-02T12:01:00Z",
			}},
		},
		"and not more": {in: input(one(func(n *Node) { n.SettlesUntil = noon }))},
		"a Karpenter that repairs and knows no veto is left alone": {
			in: input(one(), func(in *Input) { in.Karpenter = Karpenter{Version: "1.14.0", OwnRepair: true} }),
			want: want{{
				Reason:   BlockerOtherRepairer,
				Message:  "Karpenter repairs nodes itself (feature gate NodeRepair) and this version of it cannot be kept off a node",
				LiftedBy: "turn Karpenter's feature gate NodeRepair off, or run Karpenter 1.15 or later",
			}},
		},
		"one that honours the veto does not block": {in: input(one(), func(in *Input) { in.Karpenter.OwnRepair = true })},
		"one that does not repair does not block":  {in: input(one(), func(in *Input) { in.Karpenter = Karpenter{Version: "1.14.0"} })},
		"a NodeRepair at work is not doubled": {
			in:   input(one(), withRepairs(repair("a", v1alpha1.PhaseWaiting))),
			want: want{{Reason: BlockerRepairInProgress, Message: "NodeRepair repair-a is at work on it (Waiting)"}},
		},
		"nor is one that is only committed": {
			in:   input(one(), withRepairs(repair("a", ""))),
			want: want{{Reason: BlockerRepairInProgress, Message: "NodeRepair repair-a is at work on it (Committed)"}},
		},
		"a repair at work is not held against itself by the gates that it has passed": {
			in: input(one(func(n *Node) { n.Deleting = true }), withPool(budgetOf("1"), cpuLimit("4", "4")),
				withRepairs(repair("a", v1alpha1.PhaseTerminating)), func(in *Input) { in.Launching = 9 }),
			want: want{{Reason: BlockerRepairInProgress, Message: "NodeRepair repair-a is at work on it (Terminating)"}},
		},
		"a NodeRepair of an earlier NodeClaim of the same name does not block": {
			in: input(one(), withRepairs(repair("a", v1alpha1.PhaseWaiting, func(r *v1alpha1.NodeRepair) { r.Spec.NodeClaim.UID = "earlier" }))),
		},
		"something unreadable about the node blocks": {
			in:   input(one(func(n *Node) { n.Unreadable = []string{"its pods could not be listed"} })),
			want: want{{Reason: BlockerUnreadable, Message: "its pods could not be listed"}},
		},
		"something unreadable about the NodePool blocks": {
			in: input(one(), func(in *Input) {
				in.NodePools["default"] = NodePool{Object: pool("default"), Unreadable: []string{"its NodeClass could not be read"}}
			}),
			want: want{{Reason: BlockerUnreadable, Message: "its NodeClass could not be read"}},
		},
		"something unreadable about another NodePool does not": {
			in: input(one(), func(in *Input) { in.NodePools["other"] = NodePool{Unreadable: []string{"gone"}} }),
		},

		"a node that failed to be repaired three times in a day is given up": {
			in: input(one(), withRepairs(
				repair("a", v1alpha1.PhaseFailed, named("1"), endedAgo(23*time.Hour)),
				repair("a", v1alpha1.PhaseFailed, named("2"), endedAgo(12*time.Hour)),
				repair("a", v1alpha1.PhaseFailed, named("3"), endedAgo(2*time.Hour)),
			)),
			want: want{{
				Reason:   BlockerReplacementFailed,
				Message:  "3 repairs of the node, or of those that it replaces, failed within 24 hours: the next starts at 2026-01-02T13:00:00Z",
				RetryAt:  noon.Add(time.Hour),
				LiftedBy: "find out why (kubectl get noderepairs), then delete the failed NodeRepairs",
			}},
		},
		"one that failed twice is not": {
			in: input(one(), withRepairs(
				repair("a", v1alpha1.PhaseFailed, named("1"), endedAgo(25*time.Hour)),
				repair("a", v1alpha1.PhaseFailed, named("2"), endedAgo(12*time.Hour)),
				repair("a", v1alpha1.PhaseFailed, named("3"), endedAgo(2*time.Hour)),
			)),
		},
		"a fault that comes back with every replacement is given up as well": {
			in: input(one(), withRepairs(
				repair("x", v1alpha1.PhaseFailed, endedAgo(4*time.Hour), leaving("y")),
				repair("y", v1alpha1.PhaseFailed, endedAgo(3*time.Hour), leaving("z")),
				repair("z", v1alpha1.PhaseFailed, endedAgo(2*time.Hour), leaving("a")),
			)),
			want: want{{
				Reason:   BlockerReplacementFailed,
				Message:  "3 repairs of the node, or of those that it replaces, failed within 24 hours: the next starts at 2026-01-03T08:00:00Z",
				RetryAt:  noon.Add(20 * time.Hour),
				LiftedBy: "find out why (kubectl get noderepairs), then delete the failed NodeRepairs",
			}},
		},
		"one whose ancestor once proved healthy is not": {
			in: input(one(), withRepairs(
				repair("x", v1alpha1.PhaseFailed, endedAgo(4*time.Hour), leaving("y")),
				repair("y", v1alpha1.PhaseSucceeded, endedAgo(3*time.Hour), leaving("z")),
				repair("z", v1alpha1.PhaseFailed, endedAgo(2*time.Hour), leaving("a")),
			)),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			result := Decide(tt.in)
			got := decisionOf(result, "a")
			require.NotNil(t, got)
			require.Equal(t, tt.want, got.Blockers)
			require.Equal(t, len(tt.want) == 0, got.Admitted)
			var next time.Time
			for _, b := range tt.want {
				next = earlier(next, b.RetryAt)
			}
			require.Equal(t, next, result.NextChange)
		})
	}
}

func leaving(replacement string) func(*v1alpha1.NodeRepair) {
	return func(r *v1alpha1.NodeRepair) {
		r.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: replacement, Attempt: 1}}
	}
}

func TestEveryGateIsEvaluated(t *testing.T) {
	in := input([]Node{sick("a",
		judged(policy(inMode(v1alpha1.ModePaused)), judgement(eligibleAgo(-time.Minute))),
		func(n *Node) {
			n.Vetoes = []Stop{{What: "annotation"}}
			n.PodBlockers = []string{"pod"}
			n.Unreadable = []string{"something"}
		},
	)}, withPool(unready, notRegistering, cpuLimit("1", "1"), budgetOf("0")),
		withRepairs(ended(time.Second, v1alpha1.PhaseFailed)...),
		func(in *Input) { in.Launching, in.Karpenter = 9, Karpenter{OwnRepair: true} })
	require.Equal(t, []BlockerReason{
		BlockerTolerating, BlockerPaused, BlockerVeto, BlockerNodePoolNotReady, BlockerNodePoolNotReady, BlockerNodePoolLimits,
		BlockerBudget, BlockerPods, BlockerBackoff, BlockerLaunching, BlockerOtherRepairer, BlockerUnreadable,
	}, reasonsOf(decisionOf(Decide(in), "a").Blockers))
}

func TestWhoGetsADecision(t *testing.T) {
	tests := map[string]struct {
		node    Node
		repairs []v1alpha1.NodeRepair
		want    bool
	}{
		"a sick node":         {node: sick("a"), want: true},
		"a node that is well": {node: node("a")},
		"a node whose faults are only to be shown": {node: sick("a", judged(policy(), judgement(acting(v1alpha1.ActionNone))))},
		"one whose faults are to be shown, but for one that no rule speaks of": {
			node: sick("a", judged(policy(), judgement(acting(v1alpha1.ActionNone)), judgement(ruleless))), want: true,
		},
		"a sick node that is leaving":        {node: sick("a", func(n *Node) { n.Deleting = true })},
		"a sick node whose instance is gone": {node: sick("a", func(n *Node) { n.Terminated = true })},
		"a sick node that leaves because of a repair": {
			node: sick("a", func(n *Node) { n.Deleting = true }), repairs: []v1alpha1.NodeRepair{repair("a", v1alpha1.PhaseTerminating)}, want: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, decisionOf(Decide(input([]Node{tt.node}, withRepairs(tt.repairs...))), "a") != nil)
		})
	}
}
