package diagnosis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestGoverning(t *testing.T) {
	all := rule("all", pattern(".*"), time.Minute)
	gpu := metav1.LabelSelector{MatchLabels: map[string]string{"karpenter.sh/nodepool": "gpu"}}
	tests := map[string]struct {
		policies     []v1alpha1.RepairPolicy
		labels       map[string]string
		wantPolicy   string
		wantConflict []string
	}{
		"no policy governs where there is none": {},
		"a policy without a selector governs everything": {
			policies: []v1alpha1.RepairPolicy{policy("default", all)}, wantPolicy: "default",
		},
		"an empty selector governs everything": {
			policies: []v1alpha1.RepairPolicy{selecting(policy("default", all), metav1.LabelSelector{})}, wantPolicy: "default",
		},
		"a policy governs what it selects": {
			policies: []v1alpha1.RepairPolicy{selecting(policy("gpu", all), gpu)},
			labels:   map[string]string{"karpenter.sh/nodepool": "gpu"}, wantPolicy: "gpu",
		},
		"a policy does not govern what it does not select": {
			policies: []v1alpha1.RepairPolicy{selecting(policy("gpu", all), gpu)},
			labels:   map[string]string{"karpenter.sh/nodepool": "cpu"},
		},
		"the highest weight wins": {
			policies:   []v1alpha1.RepairPolicy{policy("default", all), weighing(policy("heavy", all), 10)},
			wantPolicy: "heavy",
		},
		"a higher weight that does not select does not win": {
			policies:   []v1alpha1.RepairPolicy{policy("default", all), weighing(selecting(policy("gpu", all), gpu), 10)},
			wantPolicy: "default",
		},
		"equal weights that select the same block each other": {
			policies:     []v1alpha1.RepairPolicy{policy("b", all), policy("a", all)},
			wantConflict: []string{"a", "b"},
		},
		"equal weights that select different NodeClaims do not": {
			policies:   []v1alpha1.RepairPolicy{policy("default", all), selecting(policy("gpu", all), gpu)},
			labels:     map[string]string{"karpenter.sh/nodepool": "cpu"},
			wantPolicy: "default",
		},
		"a conflict below the highest weight does not matter": {
			policies:   []v1alpha1.RepairPolicy{policy("a", all), policy("b", all), weighing(policy("heavy", all), 1)},
			wantPolicy: "heavy",
		},
		"an unreadable selector selects what its readable parts select": {
			policies: []v1alpha1.RepairPolicy{
				policy("default", all),
				weighing(selecting(policy("broken", all), metav1.LabelSelector{
					MatchLabels:      gpu.MatchLabels,
					MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "zone", Operator: "Is", Values: []string{"a"}}},
				}), 1),
			},
			labels: map[string]string{"karpenter.sh/nodepool": "gpu"}, wantPolicy: "broken",
		},
		"and leaves alone what they do not select": {
			policies: []v1alpha1.RepairPolicy{
				policy("default", all),
				weighing(selecting(policy("broken", all), metav1.LabelSelector{
					MatchLabels:      gpu.MatchLabels,
					MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "zone", Operator: "Is", Values: []string{"a"}}},
				}), 1),
			},
			labels: map[string]string{"karpenter.sh/nodepool": "cpu"}, wantPolicy: "default",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, conflict := Compile(tt.policies).Governing(tt.labels)
			require.Equal(t, tt.wantConflict, conflict)
			if tt.wantPolicy == "" {
				require.Nil(t, got)
				return
			}
			require.NotNil(t, got)
			require.Equal(t, tt.wantPolicy, got.Name)
		})
	}
}

func TestProblems(t *testing.T) {
	good := rule("all", pattern(".*"), time.Minute)
	tests := map[string]struct {
		policy v1alpha1.RepairPolicy
		want   []string // a part of each problem
	}{
		"a policy that can be used has none": {policy: policy("p", good)},
		"no rules":                           {policy: policy("p"), want: []string{"write at least one"}},
		"a pattern that does not compile": {
			policy: policy("p", rule("xid", pattern("NvidiaXID(48"), time.Minute)),
			want:   []string{`rule "xid": reasonPattern "NvidiaXID(48" is no regular expression`},
		},
		"a pattern that would compile only between our anchors": {
			policy: policy("p", rule("xid", pattern("a)|(b"), time.Minute)), want: []string{"is no regular expression"},
		},
		"a match that selects nothing": {
			policy: policy("p", rule("none", v1alpha1.FindingMatch{}, time.Minute)), want: []string{"match selects nothing"},
		},
		"a toleration of zero": {
			policy: policy("p", rule("now", pattern(".*"), 0)), want: []string{`tolerate is 0s: write a duration of at least "1s"`},
		},
		"a drain bound of zero": {
			policy: policy("p", rule("r", pattern(".*"), time.Minute, func(r *v1alpha1.RepairRule) { r.DrainBound = &metav1.Duration{} })),
			want:   []string{"drainBound is 0s"},
		},
		"an unknown action": {
			policy: policy("p", rule("r", pattern(".*"), time.Minute, acting("Explode"))),
			want:   []string{"write Replace, Reboot or None"},
		},
		"an unknown mode": {
			policy: func() v1alpha1.RepairPolicy { p := policy("p", good); p.Spec.Mode = "Maybe"; return p }(),
			want:   []string{"write Enforce, DryRun or Paused"},
		},
		"a share that is none": {
			policy: func() v1alpha1.RepairPolicy {
				p := policy("p", good)
				many := intstr.FromString("many")
				p.Spec.CorrelatedFailure.MaxUnhealthy = &many
				return p
			}(),
			want: []string{`maxUnhealthy "many" is neither`},
		},
		"a selector that cannot be read": {
			policy: selecting(policy("p", good), metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "zone", Operator: "Is", Values: []string{"a"}}},
			}),
			want: []string{"as operator In, NotIn, Exists or DoesNotExist"},
		},
		"several at once are all told": {
			policy: policy("p", rule("a", pattern("("), 0)), want: []string{"is no regular expression", "tolerate is 0s"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Compile([]v1alpha1.RepairPolicy{tt.policy}).Problems("p")
			require.Len(t, got, len(tt.want), "%v", got)
			for i := range tt.want {
				require.Contains(t, got[i], tt.want[i])
			}
			require.Empty(t, Compile([]v1alpha1.RepairPolicy{tt.policy}).Problems("another"))
		})
	}
}

func TestRulesMatch(t *testing.T) {
	f := finding("NvidiaXID48Error", 0, in(v1alpha1.CategoryAcceleratedHardware), of("gpu"))
	tests := map[string]struct {
		match v1alpha1.FindingMatch
		want  bool
	}{
		"its reason":                            {reasons("Other", "NvidiaXID48Error"), true},
		"another reason":                        {reasons("NvidiaXID4Error"), false},
		"its category":                          {v1alpha1.FindingMatch{Categories: []v1alpha1.Category{v1alpha1.CategoryAcceleratedHardware}}, true},
		"another category":                      {v1alpha1.FindingMatch{Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}}, false},
		"its source":                            {v1alpha1.FindingMatch{Sources: []string{"gpu"}}, true},
		"another source":                        {v1alpha1.FindingMatch{Sources: []string{"cluster"}}, false},
		"a pattern of the whole reason":         {pattern("NvidiaXID(48|79)Error"), true},
		"a pattern of its beginning":            {pattern("NvidiaXID4"), false},
		"a pattern of its end":                  {pattern("48Error"), false},
		"an alternative is anchored as a whole": {pattern("Nvidia|Error"), false},
		"all fields that are set":               {v1alpha1.FindingMatch{Sources: []string{"gpu"}, ReasonPattern: "Nvidia.*"}, true},
		"not only some of them":                 {v1alpha1.FindingMatch{Sources: []string{"cluster"}, ReasonPattern: "Nvidia.*"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := rule("r", tt.match, time.Minute)
			compiled, problems := compileRule(&r)
			require.Empty(t, problems)
			require.Equal(t, tt.want, compiled.matches(f))
		})
	}
}
