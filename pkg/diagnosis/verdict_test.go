package diagnosis

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestVerdict(t *testing.T) {
	net, gpu, request := v1alpha1.CategoryNetworking, v1alpha1.CategoryAcceleratedHardware, v1alpha1.CategoryRequest
	sources := []v1alpha1.Source{clusterSource(net, gpu, request)}
	byXID := policy("default",
		rule("reboot", reasons("NvidiaXID48Error"), 10*time.Minute, acting(v1alpha1.ActionReboot)),
		rule("show", reasons("Shown"), time.Minute, acting(v1alpha1.ActionNone)),
		rule("urgent", reasons("KernelDeadlock"), 10*time.Minute, ranked(50)),
		rule("replace", pattern("Nvidia.*|Interface.*|Dcgm.*"), 10*time.Minute),
	)
	tests := map[string]struct {
		policies      []v1alpha1.RepairPolicy // byXID where nil
		findings      []v1alpha1.Finding
		now           time.Duration
		wantReason    string // of the deciding judgement
		wantRule      string
		wantAction    v1alpha1.Action
		wantEligible  time.Duration
		wantUnhealthy bool
	}{
		"a fault is tolerated first": {
			findings: []v1alpha1.Finding{finding("InterfaceNotUp", 0)}, now: 10*time.Minute - time.Nanosecond,
			wantReason: "InterfaceNotUp", wantRule: "replace", wantAction: v1alpha1.ActionReplace, wantEligible: 10 * time.Minute,
		},
		"and counts once its toleration has passed": {
			findings: []v1alpha1.Finding{finding("InterfaceNotUp", 0)}, now: 10 * time.Minute,
			wantReason: "InterfaceNotUp", wantRule: "replace", wantAction: v1alpha1.ActionReplace, wantEligible: 10 * time.Minute,
			wantUnhealthy: true,
		},
		"a second fault does not reset the clock of the first": {
			findings: []v1alpha1.Finding{finding("NvidiaXID79Error", 0, in(gpu)), finding("DcgmError", 9*time.Minute, in(gpu))},
			now:      10 * time.Minute, wantReason: "NvidiaXID79Error", wantRule: "replace", wantAction: v1alpha1.ActionReplace,
			wantEligible: 10 * time.Minute, wantUnhealthy: true,
		},
		"a later reboot-class fault does not turn a replacement into a reboot": {
			findings: []v1alpha1.Finding{finding("NvidiaXID79Error", 0, in(gpu)), finding("NvidiaXID48Error", time.Minute, in(gpu))},
			now:      time.Hour, wantReason: "NvidiaXID79Error", wantRule: "replace", wantAction: v1alpha1.ActionReplace,
			wantEligible: 10 * time.Minute, wantUnhealthy: true,
		},
		"nor does an earlier one": {
			findings: []v1alpha1.Finding{finding("NvidiaXID79Error", time.Minute, in(gpu)), finding("NvidiaXID48Error", 0, in(gpu))},
			now:      time.Hour, wantReason: "NvidiaXID79Error", wantRule: "replace", wantAction: v1alpha1.ActionReplace,
			wantEligible: 11 * time.Minute, wantUnhealthy: true,
		},
		"a replace-class fault that is still tolerated does not hold up a reboot": {
			findings: []v1alpha1.Finding{finding("NvidiaXID79Error", 5*time.Minute, in(gpu)), finding("NvidiaXID48Error", 0, in(gpu))},
			now:      10 * time.Minute, wantReason: "NvidiaXID48Error", wantRule: "reboot", wantAction: v1alpha1.ActionReboot,
			wantEligible: 10 * time.Minute, wantUnhealthy: true,
		},
		"among equals the higher priority decides": {
			findings: []v1alpha1.Finding{finding("InterfaceNotUp", 0), finding("KernelDeadlock", time.Minute)}, now: time.Hour,
			wantReason: "KernelDeadlock", wantRule: "urgent", wantAction: v1alpha1.ActionReplace, wantEligible: 11 * time.Minute,
			wantUnhealthy: true,
		},
		"among equals of one priority the oldest decides": {
			findings: []v1alpha1.Finding{finding("InterfaceNotRunning", time.Minute), finding("InterfaceNotUp", 0)}, now: time.Hour,
			wantReason: "InterfaceNotUp", wantRule: "replace", wantAction: v1alpha1.ActionReplace, wantEligible: 10 * time.Minute,
			wantUnhealthy: true,
		},
		"before any toleration has passed the first to pass decides": {
			findings: []v1alpha1.Finding{finding("KernelDeadlock", time.Minute), finding("InterfaceNotUp", 0)}, now: 2 * time.Minute,
			wantReason: "InterfaceNotUp", wantRule: "replace", wantAction: v1alpha1.ActionReplace, wantEligible: 10 * time.Minute,
		},
		"a Warning decides nothing": {
			findings: []v1alpha1.Finding{finding("InterfaceNotUp", 0, warning)}, now: time.Hour,
		},
		"a fault that is only to be shown decides nothing": {
			findings: []v1alpha1.Finding{finding("Shown", 0)}, now: time.Hour,
		},
		"a fault that no rule matches decides nothing": {
			findings: []v1alpha1.Finding{finding("Unheard", 0)}, now: time.Hour,
		},
		"a fault without a policy decides nothing": {
			policies: []v1alpha1.RepairPolicy{}, findings: []v1alpha1.Finding{finding("InterfaceNotUp", 0)}, now: time.Hour,
		},
		"a fault under an invalid policy decides nothing": {
			policies: []v1alpha1.RepairPolicy{policy("p", rule("good", pattern(".*"), time.Minute), rule("bad", pattern("("), time.Minute))},
			findings: []v1alpha1.Finding{finding("InterfaceNotUp", 0)}, now: time.Hour,
		},
		"a fault under conflicting policies decides nothing": {
			policies: []v1alpha1.RepairPolicy{policy("a", rule("all", pattern(".*"), time.Minute)), policy("b", rule("all", pattern(".*"), time.Minute))},
			findings: []v1alpha1.Finding{finding("InterfaceNotUp", 0)}, now: time.Hour,
		},
		"what a person asks for is not tolerated": {
			findings: []v1alpha1.Finding{finding("RepairRequested", 0, in(request), about("Replace"))}, now: 0,
			wantReason: "RepairRequested", wantRule: RuleRepairRequested, wantAction: v1alpha1.ActionReplace, wantUnhealthy: true,
		},
		"a person may ask for a reboot": {
			findings: []v1alpha1.Finding{finding("RepairRequested", 0, in(request), about("Reboot"))}, now: 0,
			wantReason: "RepairRequested", wantRule: RuleRepairRequested, wantAction: v1alpha1.ActionReboot, wantUnhealthy: true,
		},
		"a request that nobody understands decides nothing": {
			findings: []v1alpha1.Finding{finding("RepairRequested", 0, in(request), about("Please"))}, now: time.Hour,
		},
		"a request without a policy decides nothing": {
			policies: []v1alpha1.RepairPolicy{}, findings: []v1alpha1.Finding{finding("RepairRequested", 0, in(request), about("Replace"))},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.policies == nil {
				tt.policies = []v1alpha1.RepairPolicy{byXID}
			}
			got := Compile(tt.policies).Diagnose(at(tt.now), Subject{Health: stating(sources, tt.findings...)}).Verdict
			require.Equal(t, tt.wantUnhealthy, got.Unhealthy)
			if tt.wantReason == "" {
				require.Nil(t, got.Deciding)
				return
			}
			require.NotNil(t, got.Deciding)
			require.Equal(t, tt.wantReason, got.Deciding.Finding.Reason)
			require.Equal(t, tt.wantRule, got.Deciding.Rule)
			require.Equal(t, tt.wantAction, got.Deciding.Action)
			require.Equal(t, "default", got.Deciding.Policy)
			require.True(t, got.Deciding.EligibleAt.Equal(at(tt.wantEligible)), "%s", got.Deciding.EligibleAt)
		})
	}
}

func TestVerdictCarriesThePolicyAndItsRule(t *testing.T) {
	p := policy("p", rule("r", pattern(".*"), time.Minute, ranked(7), func(r *v1alpha1.RepairRule) {
		r.DrainBound = &metav1.Duration{Duration: 30 * time.Minute}
		r.Action = "" // as an object that was not defaulted
	}))
	got := Compile([]v1alpha1.RepairPolicy{p}).Diagnose(at(0), Subject{Health: stating([]v1alpha1.Source{clusterSource()}, finding("X", 0))}).Verdict
	require.Equal(t, "p", got.Policy.Name)
	require.Empty(t, got.Conflict)
	require.Empty(t, got.Invalid)
	require.Equal(t, int32(7), got.Deciding.Priority)
	require.Equal(t, 30*time.Minute, *got.Deciding.DrainBound)
	require.Equal(t, v1alpha1.ActionReplace, got.Deciding.Action)
}

func TestVerdictSaysWhyNothingDecides(t *testing.T) {
	subject := Subject{Health: stating([]v1alpha1.Source{clusterSource()}, finding("X", 0))}
	all := rule("all", pattern(".*"), time.Minute)

	none := Compile(nil).Diagnose(at(0), subject).Verdict
	require.Nil(t, none.Policy)
	require.Len(t, none.Judgements, 1, "the fault is still judged, so that it can be explained")

	two := Compile([]v1alpha1.RepairPolicy{policy("a", all), policy("b", all)}).Diagnose(at(0), subject).Verdict
	require.Nil(t, two.Policy)
	require.Equal(t, []string{"a", "b"}, two.Conflict)
	require.Len(t, two.Judgements, 1)

	broken := Compile([]v1alpha1.RepairPolicy{policy("a", rule("bad", pattern("("), time.Minute))}).Diagnose(at(0), subject).Verdict
	require.Equal(t, "a", broken.Policy.Name)
	require.Contains(t, broken.Invalid, "is no regular expression")
	require.Empty(t, broken.Judgements[0].Rule)
}

func TestSilenceAloneIsNoReasonToRepair(t *testing.T) {
	policies := Compile([]v1alpha1.RepairPolicy{policy("p", rule("all", pattern(".*"), time.Minute))})
	subject := Subject{Health: stating([]v1alpha1.Source{agentSource(0)}, finding("InterfaceNotUp", 0, of("agent")))}

	before := policies.Diagnose(at(14*time.Minute), subject)
	require.True(t, before.Verdict.Unhealthy)
	require.Equal(t, at(15*time.Minute), before.NextChange)

	after := policies.Diagnose(at(15*time.Minute), subject)
	require.False(t, after.Verdict.Unhealthy)
	require.Empty(t, after.Verdict.Judgements)
	require.Zero(t, after.NextChange)
}

func TestNextChange(t *testing.T) {
	policies := Compile([]v1alpha1.RepairPolicy{policy("p",
		rule("show", reasons("Shown"), time.Minute, acting(v1alpha1.ActionNone)),
		rule("slow", reasons("Slow"), time.Hour),
		rule("all", pattern(".*"), 10*time.Minute),
	)})
	tests := map[string]struct {
		now  time.Duration
		nh   *v1alpha1.NodeHealth
		want time.Duration // 0 for none
	}{
		"never where nothing watches":       {},
		"never where nothing is the matter": {nh: stating([]v1alpha1.Source{clusterSource()})},
		"when the first toleration passes": {
			nh: stating([]v1alpha1.Source{clusterSource()}, finding("Slow", 0), finding("X", time.Minute)), want: 11 * time.Minute,
		},
		"when the next passes, after the first": {
			now: 11 * time.Minute, nh: stating([]v1alpha1.Source{clusterSource()}, finding("Slow", 0), finding("X", time.Minute)), want: time.Hour,
		},
		"never for what is only shown":    {nh: stating([]v1alpha1.Source{clusterSource()}, finding("Shown", 0))},
		"when a source would fall silent": {nh: stating([]v1alpha1.Source{agentSource(time.Minute)}), want: 16 * time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := time.Time{}
			if tt.want != 0 {
				want = at(tt.want)
			}
			require.Equal(t, want, policies.Diagnose(at(tt.now), Subject{Health: tt.nh}).NextChange)
		})
	}
}

func TestDiagnoseProperties(t *testing.T) {
	policies := Compile([]v1alpha1.RepairPolicy{policy("p",
		rule("reboot", reasons("A"), time.Minute, acting(v1alpha1.ActionReboot)),
		rule("show", reasons("B"), time.Minute, acting(v1alpha1.ActionNone)),
		rule("replace", reasons("C", "D"), 5*time.Minute, ranked(3)),
	)})
	rapid.Check(t, func(t *rapid.T) {
		nh := drawHealth(t)
		now := at(time.Duration(rapid.IntRange(0, 40).Draw(t, "now")) * time.Minute)
		got := policies.Diagnose(now, Subject{Health: nh})

		shuffled := nh.DeepCopy()
		shuffled.Findings = rapid.Permutation(shuffled.Findings).Draw(t, "findings")
		shuffled.Sources = rapid.Permutation(shuffled.Sources).Draw(t, "sources")
		require.Equal(t, got, policies.Diagnose(now, Subject{Health: shuffled}), "the same input gives the same answer")

		if next := got.NextChange; !next.IsZero() {
			require.True(t, next.After(now))
			between := now.Add(next.Sub(now) / 2)
			require.Equal(t, got, policies.Diagnose(between, Subject{Health: nh}), "nothing changes before NextChange")
		}
		if got.Verdict.Unhealthy {
			require.NotEqual(t, v1alpha1.ActionNone, got.Verdict.Deciding.Action)
			require.False(t, now.Before(got.Verdict.Deciding.EligibleAt))
		}

		more := nh.DeepCopy()
		more.Findings = append(more.Findings, finding("C", 40*time.Minute, about("new")))
		if got.Verdict.Unhealthy {
			require.True(t, policies.Diagnose(now, Subject{Health: more}).Verdict.Unhealthy, "another fault never makes a sick node well")
		}

		cured := nh.DeepCopy()
		cured.Findings = nil
		after := policies.Diagnose(now, Subject{Health: cured})
		require.False(t, after.Verdict.Unhealthy)
		for _, fact := range after.Facts {
			require.NotEqual(t, metav1.ConditionFalse, fact.Status, "what is no longer stated is gone")
		}
	})
}

func drawHealth(t *rapid.T) *v1alpha1.NodeHealth {
	nh := &v1alpha1.NodeHealth{Sources: []v1alpha1.Source{clusterSource(v1alpha1.CategoryNetworking)}}
	agent := agentSource(time.Duration(rapid.IntRange(0, 20).Draw(t, "beat")) * time.Minute)
	agent.State = rapid.SampledFrom([]v1alpha1.SourceState{v1alpha1.SourceActive, v1alpha1.SourceDegraded, v1alpha1.SourceUnavailable}).Draw(t, "state")
	nh.Sources = append(nh.Sources, agent)
	for i := range rapid.IntRange(0, 6).Draw(t, "count") {
		f := finding(
			rapid.SampledFrom([]string{"A", "B", "C", "D", "E"}).Draw(t, "reason"),
			time.Duration(rapid.IntRange(0, 30).Draw(t, "since"))*time.Minute,
			of(rapid.SampledFrom([]string{"cluster", "agent", "nobody"}).Draw(t, "source")),
			about(fmt.Sprintf("s%d", i)),
			in(rapid.SampledFrom([]v1alpha1.Category{v1alpha1.CategoryNetworking, v1alpha1.CategoryKernel}).Draw(t, "category")),
		)
		if rapid.Bool().Draw(t, "warning") {
			warning(&f)
		}
		nh.Findings = append(nh.Findings, f)
	}
	return nh
}

func BenchmarkDiagnose(b *testing.B) {
	policies := Compile([]v1alpha1.RepairPolicy{
		policy("default", rule("net", pattern("Interface.*"), 10*time.Minute), rule("all", pattern(".*"), 30*time.Minute)),
		weighing(selecting(policy("gpu", rule("all", pattern(".*"), time.Minute)),
			metav1.LabelSelector{MatchLabels: map[string]string{"karpenter.sh/nodepool": "gpu"}}), 10),
	})
	sources := []v1alpha1.Source{agentSource(0), clusterSource(v1alpha1.CategoryNetworking, v1alpha1.CategoryKubelet)}
	labels := map[string]string{"karpenter.sh/nodepool": "cpu"}
	subjects := map[string]Subject{
		"healthy": {Labels: labels, Health: stating(sources)},
		"sick": {Labels: labels, Health: stating(sources,
			finding("InterfaceNotUp", 0, about("eth0")), finding("NodeNotReady", time.Minute, in(v1alpha1.CategoryKubelet)),
			finding("ConntrackExceeded", 0, warning, of("agent")))},
	}
	for name, subject := range subjects {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				policies.Diagnose(at(time.Minute), subject)
			}
		})
	}
}
