package decision

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func reboots(in *Input) { in.ExecutorReboots = true }

var rebooting = judged(policy(), judgement(acting(v1alpha1.ActionReboot)))

// rebootOf "a", which was asked of Karpenter, and ended d ago.
func rebootOf(d time.Duration, phase v1alpha1.Phase, options ...func(*v1alpha1.NodeRepair)) v1alpha1.NodeRepair {
	r := repair("a", phase, named(d.String()), committedAgo(d), endedAgo(d), func(r *v1alpha1.NodeRepair) {
		r.Spec.Action = v1alpha1.ActionReboot
		r.Spec.NodePool, r.Status.Domains = "elsewhere", nil // what it says about the NodePool is not the matter here
		r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.RepairConditionRebooted, Status: metav1.ConditionFalse, Reason: "Requested"}}
	})
	for _, option := range options {
		option(&r)
	}
	return r
}

func notRequested(r *v1alpha1.NodeRepair) { r.Status.Conditions = nil }

func TestRebootsAreCountedFromWhatIsKeptAndEndInAReplacement(t *testing.T) {
	failed, canceled, yielded := v1alpha1.PhaseFailed, v1alpha1.PhaseCanceled, v1alpha1.PhaseYielded
	five := judged(policy(func(p *v1alpha1.RepairPolicy) { p.Spec.Reboot.Attempts = new(int32(5)) }), judgement(acting(v1alpha1.ActionReboot)))
	none := judged(policy(func(p *v1alpha1.RepairPolicy) { p.Spec.Reboot.Attempts = new(int32(0)) }), judgement(acting(v1alpha1.ActionReboot)))
	tests := map[string]struct {
		in         Input
		wantAction v1alpha1.Action
		wantNote   string
	}{
		"the first": {in: input([]Node{sick("a", rebooting)}, reboots), wantAction: v1alpha1.ActionReboot},
		"the second, after one that did not help": {
			in: input([]Node{sick("a", rebooting)}, reboots, withRepairs(rebootOf(time.Hour, failed))), wantAction: v1alpha1.ActionReboot,
		},
		"no third": {
			in:         input([]Node{sick("a", rebooting)}, reboots, withRepairs(rebootOf(2*time.Hour, failed), rebootOf(time.Hour, failed))),
			wantAction: v1alpha1.ActionReplace, wantNote: "2 of 2 reboots within 24h0m0s are used up, so the node is replaced",
		},
		"one that was let go before Karpenter was asked is no attempt": {
			in: input([]Node{sick("a", rebooting)}, reboots, withRepairs(
				rebootOf(3*time.Hour, canceled, notRequested), rebootOf(2*time.Hour, yielded, notRequested), rebootOf(time.Hour, failed))),
			wantAction: v1alpha1.ActionReboot,
		},
		"one that was yielded after Karpenter was asked is": {
			in:         input([]Node{sick("a", rebooting)}, reboots, withRepairs(rebootOf(2*time.Hour, yielded), rebootOf(time.Hour, failed))),
			wantAction: v1alpha1.ActionReplace, wantNote: "2 of 2 reboots within 24h0m0s are used up, so the node is replaced",
		},
		"failed reboots do not use up the attempts at a replacement": {
			in: input([]Node{sick("a", five)}, reboots, withRepairs(
				rebootOf(4*time.Hour, failed), rebootOf(3*time.Hour, failed), rebootOf(2*time.Hour, failed))),
			wantAction: v1alpha1.ActionReboot,
		},
		"nor do they keep the replacement from being made in the end": {
			in: input([]Node{sick("a", five)}, reboots, withRepairs(rebootOf(6*time.Hour, failed), rebootOf(5*time.Hour, failed),
				rebootOf(4*time.Hour, failed), rebootOf(3*time.Hour, failed), rebootOf(2*time.Hour, failed))),
			wantAction: v1alpha1.ActionReplace, wantNote: "5 of 5 reboots within 24h0m0s are used up, so the node is replaced",
		},
		"a policy may allow none": {
			in: input([]Node{sick("a", none)}, reboots), wantAction: v1alpha1.ActionReplace,
			wantNote: "0 of 0 reboots within 24h0m0s are used up, so the node is replaced",
		},
		"a provider that is not known to reboot replaces": {
			in: input([]Node{sick("a", rebooting, func(n *Node) { n.ProviderReboots = false })}, reboots), wantAction: v1alpha1.ActionReplace,
			wantNote: "the provider of its node class is not known to reboot instances, so the node is replaced",
		},
		"those that no NodeRepair tells of count too": {
			in: input([]Node{sick("a", rebooting, func(n *Node) { n.Reboots = []time.Time{ago(25 * time.Hour), ago(time.Hour)} })}, reboots,
				withRepairs(rebootOf(2*time.Hour, failed))),
			wantAction: v1alpha1.ActionReplace, wantNote: "2 of 2 reboots within 24h0m0s are used up, so the node is replaced",
		},
		"nobody else's reboots count": {
			in: input([]Node{sick("b", rebooting)}, reboots, withRepairs(rebootOf(2*time.Hour, failed), rebootOf(time.Hour, failed))), wantAction: v1alpha1.ActionReboot,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Decide(tt.in).Decisions[0]
			require.True(t, got.Admitted, "%v", got.Blockers)
			require.Equal(t, tt.wantAction, got.Action)
			require.Equal(t, tt.wantNote, got.Note)
		})
	}
}

// Karpenter says that the node is not Initialized from the moment of the reboot on, and that it is rebooting until it is
// Ready. In between it is neither, and it is disrupted all the same.
func TestANodeThatIsRebootedTakesUpTheBudgetUntilItIsInitializedAgain(t *testing.T) {
	atWork := func(phase v1alpha1.Phase) inputOption {
		return withRepairs(repair("a", phase, func(r *v1alpha1.NodeRepair) { r.Spec.Action = v1alpha1.ActionReboot }))
	}
	uninitialized := func(n *Node) { n.Initialized = false }
	tests := map[string]struct {
		in   Input
		want []string
	}{
		"it drains":                     {input([]Node{sick("a", rebooting), sick("b")}, withPool(budgetOf("1")), atWork(v1alpha1.PhaseRebooting)), nil},
		"Karpenter reboots it":          {input([]Node{sick("a", rebooting, uninitialized, func(n *Node) { n.Rebooting = true }), sick("b")}, withPool(budgetOf("1")), atWork(v1alpha1.PhaseRebooting)), nil},
		"it is back, not yet in use":    {input([]Node{sick("a", rebooting, uninitialized), sick("b")}, withPool(budgetOf("1")), atWork(v1alpha1.PhaseRebooting)), nil},
		"it is in use, and watched":     {input([]Node{sick("a", rebooting), sick("b")}, withPool(budgetOf("1")), atWork(v1alpha1.PhaseVerifying)), []string{"b"}},
		"a node that merely comes up":   {input([]Node{node("a", uninitialized), sick("b")}, withPool(budgetOf("1"))), []string{"b"}},
		"somebody else has it rebooted": {input([]Node{node("a", uninitialized, func(n *Node) { n.Rebooting = true }), sick("b")}, withPool(budgetOf("1"))), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, admitted(Decide(tt.in)))
		})
	}
}
