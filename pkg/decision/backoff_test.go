package decision

import (
	"fmt"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestANodePoolWhoseRepairsFailIsRepairedOneAtATime(t *testing.T) {
	failed := func(d time.Duration) v1alpha1.NodeRepair {
		return repair("gone", v1alpha1.PhaseFailed, endedAgo(d), func(r *v1alpha1.NodeRepair) { r.Status.Domains = nil })
	}
	tests := map[string]struct {
		past        []v1alpha1.NodeRepair
		want        int
		wantMessage string
		wantRetryAt time.Time
	}{
		"none within the pause": {
			past: []v1alpha1.NodeRepair{failed(30 * time.Second)}, want: 0,
			wantMessage: `the last 1 repair of NodePool "default" failed: the next starts at 2026-01-02T12:00:30Z`, wantRetryAt: noon.Add(30 * time.Second),
		},
		"one after it": {
			past: []v1alpha1.NodeRepair{failed(2 * time.Minute)}, want: 1,
			wantMessage: `the last 1 repair of NodePool "default" failed: 1 repair at a time until one succeeds, 1 at work`, wantRetryAt: noon.Add(58 * time.Minute),
		},
		"none beside one at work": {
			past: []v1alpha1.NodeRepair{failed(2 * time.Minute), repair("other", v1alpha1.PhaseVerifying)}, want: 0,
			wantMessage: `the last 1 repair of NodePool "default" failed: 1 repair at a time until one succeeds, 1 at work`, wantRetryAt: noon.Add(58 * time.Minute),
		},
		"all once one has succeeded":  {past: []v1alpha1.NodeRepair{failed(2 * time.Minute), repair("other", v1alpha1.PhaseSucceeded, endedAgo(time.Minute))}, want: 2},
		"all when an hour has passed": {past: []v1alpha1.NodeRepair{failed(time.Hour)}, want: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Decide(input(append(wells(20), sicks(2)...), withRepairs(tt.past...)))
			require.Len(t, admitted(got), tt.want)
			for _, d := range got.Decisions {
				if !d.Admitted {
					require.Equal(t, []Blocker{{Reason: BlockerBackoff, Message: tt.wantMessage, RetryAt: tt.wantRetryAt}}, d.Blockers)
				}
			}
		})
	}
}

func TestOnlyWhatProvedHealthySpeaksForTheNext(t *testing.T) {
	verified := func(status metav1.ConditionStatus, reason string) v1alpha1.NodeRepair {
		return repair("gone", v1alpha1.PhaseSucceeded, endedAgo(time.Minute), func(r *v1alpha1.NodeRepair) {
			r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.RepairConditionVerified, Status: status, Reason: reason}}
		})
	}
	for reason, want := range map[string]int{
		v1alpha1.VerifiedHealthy: 2, v1alpha1.VerifiedNotNeeded: 1, v1alpha1.VerifiedReplacementGone: 1,
	} {
		var r record
		past := verified(lo.Ternary(want > 1, metav1.ConditionTrue, metav1.ConditionUnknown), reason)
		r.add(&past, noon)
		require.Equal(t, want, r.width(), reason)
	}
	var r record
	failed, gone := repair("x", v1alpha1.PhaseFailed, endedAgo(2*time.Minute)), verified(metav1.ConditionUnknown, v1alpha1.VerifiedReplacementGone)
	r.add(&failed, noon)
	r.add(&gone, noon)
	require.Equal(t, 1, r.failures, "nor does it end the backoff")
}

func TestTheAttemptsOfThePolicyBoundTheFailuresInAChain(t *testing.T) {
	// "a" was replaced by "b", which turned out sick and was replaced by "c", which did too.
	chain := func(claim, replacement string, d time.Duration) v1alpha1.NodeRepair {
		return repair(claim, v1alpha1.PhaseFailed, endedAgo(d), func(r *v1alpha1.NodeRepair) {
			r.Status.Domains = nil
			r.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: replacement, Attempt: 1}}
		})
	}
	past := []v1alpha1.NodeRepair{chain("a", "b", 5*time.Hour), chain("b", "c", 4*time.Hour)}
	attempts := func(n int32) nodeOption {
		return judged(policy(func(p *v1alpha1.RepairPolicy) { p.Spec.Replacement.Attempts = &n }), judgement())
	}
	require.Equal(t, []string{"c"}, admitted(Decide(input([]Node{sick("c")}, withRepairs(past...)))), "3 are allowed by default")
	require.Equal(t, []string{"c"}, admitted(Decide(input([]Node{sick("c", attempts(3))}, withRepairs(past...)))))
	got := Decide(input([]Node{sick("c", attempts(2))}, withRepairs(past...)))
	require.Equal(t, []Blocker{{
		Reason:   BlockerReplacementFailed,
		Message:  "2 repairs of the node, or of those that it replaces, failed within 24 hours: the next starts at 2026-01-03T07:00:00Z",
		RetryAt:  noon.Add(19 * time.Hour),
		LiftedBy: "find out why (kubectl get noderepairs), then delete the failed NodeRepairs",
	}}, got.Decisions[0].Blockers)
	ref := func(name string) v1alpha1.NodeClaimReference {
		return v1alpha1.NodeClaimReference{Name: name, UID: types.UID("uid-" + name)}
	}
	for name, want := range map[string]int{"a": 1, "b": 2, "c": 2, "unrelated": 0} {
		require.Equal(t, want, FailedBefore(past, ref(name), noon), name)
	}
	require.Zero(t, FailedBefore(past, ref("c"), noon.Add(48*time.Hour)))
}

// sickDay is a NodePool whose every replacement is sick, for a day, in steps of half a minute.
type sickDay struct {
	in Input
	// refuses: replacements do not even launch. Otherwise they turn sick while they are watched.
	refuses  bool
	attempts int
	launches []time.Time
	started  map[string]time.Time
	made     int
}

// takes is how long a repair takes to fail: three launches that time out, or a launch, a drain and a watch.
func (s *sickDay) takes() time.Duration {
	if s.refuses {
		return 5 * time.Minute
	}
	return 4 * time.Minute
}

func (s *sickDay) step() {
	for i := range s.in.Repairs {
		r := &s.in.Repairs[i]
		if age := s.in.Now.Sub(s.started[r.Name]); !r.Finished() && age >= s.takes() {
			s.fails(r)
		} else if !r.Finished() && age >= 2*time.Minute && !s.refuses {
			r.Status.Phase = v1alpha1.PhaseVerifying
		}
	}
	for _, name := range admitted(Decide(s.in)) {
		s.made++
		n, _ := lo.Find(s.in.Nodes, func(n Node) bool { return n.NodeClaim == name })
		r := repair(name, v1alpha1.PhaseWaiting, named(fmt.Sprintf("r%d", s.made)), func(r *v1alpha1.NodeRepair) {
			r.CreationTimestamp, r.Status.Domains = metaAt(s.in.Now), Domains(n)
		})
		s.started[r.Name] = s.in.Now
		s.in.Repairs = append(s.in.Repairs, r)
		for range lo.Ternary(s.refuses, s.attempts, 1) {
			s.launches = append(s.launches, s.in.Now)
		}
	}
	s.in.Now = s.in.Now.Add(30 * time.Second)
}

func (s *sickDay) fails(r *v1alpha1.NodeRepair) {
	r.Status.Phase, r.Status.FinishedAt = v1alpha1.PhaseFailed, new(metaAt(s.in.Now))
	if s.refuses {
		return
	}
	next := fmt.Sprintf("by-%s", r.Name)
	r.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: next, Attempt: 1}}
	s.in.Nodes = lo.Map(s.in.Nodes, func(n Node, _ int) Node {
		if n.NodeClaim == r.Spec.NodeClaim.Name {
			return sick(next)
		}
		return n
	})
}

func (s *sickDay) disrupted() int {
	return lo.CountBy(s.in.Repairs, func(r v1alpha1.NodeRepair) bool { return r.HoldsBudget() })
}

func TestInADayOfSickReplacementsLaunchesAreBoundedAndTheEndIsClear(t *testing.T) {
	const (
		attempts = 3
		perHour  = 9 * attempts // what gateBackoff promises
	)
	for name, test := range map[string]struct {
		well, sick, budget int
		refuses            bool
		// ends: all that can be tried has been tried within the day.
		ends bool
	}{
		"a few sick nodes, whose replacements turn sick":         {well: 40, sick: 4, budget: 2, ends: true},
		"a few sick nodes, whose replacements do not launch":     {well: 40, sick: 4, budget: 2, refuses: true, ends: true},
		"many sick nodes, whose replacements turn sick":          {well: 100, sick: 20, budget: 10},
		"many sick nodes, whose replacements do not launch":      {well: 100, sick: 20, budget: 10, refuses: true},
		"all nodes sick at once, and their replacements":         {sick: 30, budget: 30},
		"all nodes sick at once, and replacements do not launch": {sick: 30, budget: 30, refuses: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sickDay{
				in:      input(append(wells(test.well), sicks(test.sick)...), withPool(budgetOf(fmt.Sprint(test.budget)))),
				refuses: test.refuses, attempts: attempts, started: map[string]time.Time{},
			}
			for s.in.Now.Before(noon.Add(24 * time.Hour)) {
				s.step()
				require.LessOrEqual(t, s.disrupted(), test.budget, "the budget holds")
			}
			burst := lo.CountBy(s.launches, func(at time.Time) bool { return at.Before(noon.Add(s.takes())) })
			require.LessOrEqual(t, burst, test.budget*attempts*2, "before the first failure only the budget bounds")
			later := s.launches[burst:]
			for i, at := range later {
				within := lo.CountBy(later[i:], func(other time.Time) bool { return other.Before(at.Add(time.Hour)) })
				require.LessOrEqual(t, within, perHour, "launches in the hour from %s", at)
			}
			require.LessOrEqual(t, len(s.launches), test.sick*attempts*attempts, "three repairs for each node that was sick at first")
			for _, d := range Decide(s.in).Decisions {
				require.False(t, d.Admitted)
				if test.ends {
					require.Contains(t, reasonsOf(d.Blockers), BlockerReplacementFailed)
				}
			}
			t.Logf("%d launches in the day, %d of them before the first failure", len(s.launches), burst)
		})
	}
}
