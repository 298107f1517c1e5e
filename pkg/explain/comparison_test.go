package explain

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// simulateUnder makes a pass over three sick nodes of ten, of which a is the oldest fault, under some policies.
func simulateUnder(policies ...v1alpha1.RepairPolicy) Simulation {
	now := start.Add(time.Hour)
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	pool.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "1", Reasons: []karpv1.DisruptionReason{karpv1.DisruptionReasonUnhealthy}}}
	pool.StatusConditions().SetTrue(karpv1.ConditionTypeValidationSucceeded)
	pool.StatusConditions().SetTrue(karpv1.ConditionTypeNodeClassReady)
	in := decision.Input{Now: now, NodePools: map[string]decision.NodePool{"default": {Object: pool}}, ExecutorReboots: true, Karpenter: decision.Karpenter{RebootSupported: true}}
	compiled := diagnosis.Compile(policies)
	for i, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"} {
		health := &v1alpha1.NodeHealth{Sources: []v1alpha1.Source{{Name: "node-conditions", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}}}}
		if i < 3 {
			health.Findings = []v1alpha1.Finding{{
				Source: "node-conditions", Reason: "InterfaceNotUp", Subject: "eth0", Category: v1alpha1.CategoryNetworking, Severity: v1alpha1.SeverityFatal,
				Since: metav1.NewTime(start.Add(time.Duration(i) * time.Minute)),
			}}
		}
		in.Nodes = append(in.Nodes, decision.Node{
			NodeClaim: name, NodeClaimUID: types.UID(name), NodeName: "node-" + name, NodePool: "default", Initialized: true, ReschedulablePods: 1, ProviderReboots: true,
			Verdict: compiled.Diagnose(now, diagnosis.Subject{Name: name, Health: health}).Verdict,
		})
	}
	return Simulate(in, policies)
}

func policyOf(change func(*v1alpha1.RepairPolicySpec)) v1alpha1.RepairPolicy {
	p := v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	p.Spec.Rules = []v1alpha1.RepairRule{{Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: time.Minute}, Action: v1alpha1.ActionReplace}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func TestCompare(t *testing.T) {
	for name, test := range map[string]struct {
		before, after v1alpha1.RepairPolicy
		want          map[string][]string // by NodeClaim
		same          int
	}{
		"the same policy changes nothing": {before: policyOf(nil), after: policyOf(nil), same: 3},
		"what is only looked at is repaired": {
			before: policyOf(func(s *v1alpha1.RepairPolicySpec) { s.Mode = v1alpha1.ModeDryRun }), after: policyOf(nil),
			want: map[string][]string{
				"a": {"is repaired (number 1)", "DryRun stands in the way no longer"},
				"b": {
					`DisruptionBudget stands in the way: budget of NodePool "default" (nodes: "1") admits 1 disruption for reason Unhealthy, 1 in flight (node-a: starting now)`,
					"DryRun stands in the way no longer",
				},
				"c": {
					`DisruptionBudget stands in the way: budget of NodePool "default" (nodes: "1") admits 1 disruption for reason Unhealthy, 1 in flight (node-a: starting now)`,
					"DryRun stands in the way no longer",
				},
			},
		},
		"what is repaired is only shown": {
			before: policyOf(nil), after: policyOf(func(s *v1alpha1.RepairPolicySpec) { s.Rules[0].Action = v1alpha1.ActionNone }),
			want: map[string][]string{
				"a": {"is not repaired now", "action None instead of Replace"},
				"b": {"is only shown", "action None instead of Replace", "DisruptionBudget stands in the way no longer"},
				"c": {"is only shown", "action None instead of Replace", "DisruptionBudget stands in the way no longer"},
			},
		},
		"what nobody speaks of any more": {
			before: policyOf(nil), after: policyOf(func(s *v1alpha1.RepairPolicySpec) {
				s.Rules[0].Match = v1alpha1.FindingMatch{Reasons: []string{"Other"}}
			}),
			want: map[string][]string{
				"a": {"is not repaired now", `no rule instead of rule "all" of RepairPolicy "p"`, "action None instead of Replace", "tolerated for ever instead of until 2026-01-02T10:01:00Z",
					`NoPolicy stands in the way: no rule of RepairPolicy "p" matches InterfaceNotUp eth0`},
			},
		},
		"a reboot instead": {
			before: policyOf(nil), after: policyOf(func(s *v1alpha1.RepairPolicySpec) {
				s.Rules[0].Action, s.Rules[0].DrainBound = v1alpha1.ActionReboot, &metav1.Duration{Duration: time.Hour}
			}),
			want: map[string][]string{
				"a": {"action Reboot instead of Replace", "drain bound 1h0m0s instead of none"},
				"b": {"action Reboot instead of Replace", "drain bound 1h0m0s instead of none"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := Compare(simulateUnder(test.before), simulateUnder(test.after))
			require.Equal(t, test.same, c.Same)
			got := map[string][]string{}
			for _, change := range c.Changes {
				got[change.NodeClaim] = change.What
			}
			for nodeClaim, what := range test.want {
				require.Equal(t, what, got[nodeClaim], nodeClaim)
			}
			if len(test.want) == 0 {
				require.Empty(t, got)
			}
		})
	}
}

func TestWhatNewlyStartsIsToldFirst(t *testing.T) {
	dryRun := policyOf(func(s *v1alpha1.RepairPolicySpec) { s.Mode = v1alpha1.ModeDryRun })
	require.Equal(t, "a", Compare(simulateUnder(dryRun), simulateUnder(policyOf(nil))).Changes[0].NodeClaim)
}

func TestASimulationTellsOfEverySickNodeOnce(t *testing.T) {
	s := simulateUnder(policyOf(nil))
	require.Equal(t, 3, s.Sick)
	require.Equal(t, s.Sick, len(s.Repairs)+len(s.AtWork)+len(s.Held)+len(s.ShownOnly))
	require.Equal(t, 1, s.Repairs[0].Order)
	require.Equal(t, []SimulatedPolicy{{Name: "p", Mode: v1alpha1.ModeEnforce, NodeClaims: 16, Sick: 3}}, s.Policies)
}
