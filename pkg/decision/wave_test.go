package decision

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func unlike(name string) Node {
	return sick(name, judged(policy(), judgement(sickOf("KernelDeadlock"))))
}

func TestAFaultUnlikeTheWaveIsNotHeld(t *testing.T) {
	both := judged(policy(), judgement(sickOf("KernelDeadlock")), judgement())
	tests := map[string]struct {
		nodes   []Node
		repairs []v1alpha1.NodeRepair
		want    []string // that are admitted
	}{
		"one that is sick of something else goes beside the probe": {
			nodes: append(wells(10), append(sicks(9), unlike("x"))...), want: []string{"sick-0", "x"},
		},
		"one that is sick of the wave too does not": {
			nodes: append(wells(10), append(sicks(9), sick("x", both))...), want: []string{"sick-0"},
		},
		"as many as would not be suspect by themselves do": {
			nodes: append(wells(2), append(sicks(6), unlike("x"), unlike("y"))...), want: []string{"sick-0", "x", "y"},
		},
		"one more, and all are taken for one fault": {
			nodes: append(wells(1), append(sicks(6), unlike("x"), unlike("y"), unlike("z"))...), want: []string{"sick-0"},
		},
		"where no reason prevails all are taken for one fault": {
			nodes: append(wells(7), sick("a"), unlike("b"), sick("c", judged(policy(), judgement(sickOf("DiskSlow"))))), want: []string{"a"},
		},
		"its repair leaves the wave its probe": {
			nodes: append(wells(10), append(sicks(9), unlike("x"))...), want: []string{"sick-0"},
			repairs: []v1alpha1.NodeRepair{repair("x", v1alpha1.PhaseWaiting, causedBy("KernelDeadlock"))},
		},
		"as does one whose node is gone": {
			nodes: append(wells(11), sicks(9)...), want: []string{"sick-0"},
			repairs: []v1alpha1.NodeRepair{repair("gone", v1alpha1.PhaseVerifying, causedBy("KernelDeadlock"))},
		},
		"a repair of the wave does not": {
			nodes:   append(wells(11), sicks(9)...),
			repairs: []v1alpha1.NodeRepair{repair("gone", v1alpha1.PhaseVerifying, causedBy("InterfaceNotUp"))},
		},
		"nor does one of which the reason is not known": {
			nodes:   append(wells(11), sicks(9)...),
			repairs: []v1alpha1.NodeRepair{repair("gone", v1alpha1.PhaseVerifying)},
		},
		"the oldest fault is the probe": {
			nodes: append(wells(3), append(sicks(3), sick("x", judged(policy(), judgement(eligibleAgo(time.Hour)))))...), want: []string{"x"},
		},
		"one that was tried in vain waits for those that were not": {
			nodes: append(wells(3), sicks(3)...), want: []string{"sick-1"},
			repairs: []v1alpha1.NodeRepair{repair("sick-0", v1alpha1.PhaseFailed, endedAgo(2*time.Minute))},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.ElementsMatch(t, tt.want, admitted(Decide(input(tt.nodes, withRepairs(tt.repairs...)))))
		})
	}
}

func TestOneSickNodeOfASmallPool(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprintf("of %d nodes is repaired within the budget", size), func(t *testing.T) {
			nodes := append(wells(size-1), sick("a"))
			require.Equal(t, []string{"a"}, admitted(Decide(input(nodes, withPool(budgetOf("1"))))))
			require.Equal(t, []string{"a"}, admitted(Decide(input(nodes, withPool(budgetOf("10%"))))), "Karpenter rounds up")
			got := Decide(input(nodes, withPool(budgetOf("0"))))
			require.Empty(t, admitted(got))
			require.Equal(t, []BlockerReason{BlockerBudget}, reasonsOf(got.Decisions[0].Blockers))
		})
	}
}

// However the wave goes, a fault unlike it never waits for the wave. All that may hold it is the backoff of its NodePool
// after failures, which ends by itself.
func TestAGenuineFaultIsNeverStarvedByAWave(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(5, 60).Draw(t, "size")
		odd := rapid.IntRange(1, size/5).Draw(t, "odd")
		inWave := rapid.IntRange(size/5+1, size-odd).Draw(t, "wave")
		nodes := append(wells(size-inWave-odd), sicks(inWave, judged(policy(), judgement(ranked(int32(rapid.IntRange(0, 100).Draw(t, "priority"))))))...)
		for i := range odd {
			nodes = append(nodes, unlike(fmt.Sprintf("odd-%d", i)))
		}
		in := input(nodes)
		for i := range rapid.IntRange(0, 6).Draw(t, "failed") {
			in.Repairs = append(in.Repairs, repair(fmt.Sprintf("past-%d", i), v1alpha1.PhaseFailed, named(fmt.Sprintf("f%d", i)), causedBy("InterfaceNotUp"),
				endedAgo(time.Duration(rapid.IntRange(0, 50).Draw(t, "ended"))*time.Minute)))
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "at work") {
			in.Repairs = append(in.Repairs, repair(fmt.Sprintf("sick-%d", i), v1alpha1.PhaseWaiting, named(fmt.Sprintf("w%d", i)), causedBy("InterfaceNotUp")))
		}
		got := Decide(in)
		record := newIndex(in).pools["default"].record
		for i := range odd {
			d := decisionOf(got, fmt.Sprintf("odd-%d", i))
			if record.failures == 0 || d.Admitted {
				require.True(t, d.Admitted, "%v", d.Blockers)
				continue
			}
			require.Equal(t, []BlockerReason{BlockerBackoff}, reasonsOf(d.Blockers))
			require.False(t, d.Blockers[0].RetryAt.IsZero())
			require.LessOrEqual(t, d.Blockers[0].RetryAt.Sub(in.Now), recordPeriod)
		}
	})
}

// Where the domain is too small to tell, or all its faults differ, each node is tried in bounded time, although every
// repair fails: once each before any is tried again.
func TestEveryNodeOfAWaveIsTriedInItsTurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(3, 8).Draw(t, "size")
		in := input(nil)
		for i := range size {
			in.Nodes = append(in.Nodes, sick(fmt.Sprintf("n%d", i), judged(policy(), judgement(
				sickOf(fmt.Sprintf("Reason%d", rapid.IntRange(0, 3).Draw(t, "reason"))),
				eligibleAgo(time.Duration(rapid.IntRange(0, 20).Draw(t, "age"))*time.Minute)))))
		}
		tried := map[string]int{}
		for minute := range 10 * size {
			in.Now = noon.Add(time.Duration(minute) * time.Minute)
			for _, name := range admitted(Decide(in)) {
				tried[name]++
				in.Repairs = append(in.Repairs, repair(name, v1alpha1.PhaseFailed, named(fmt.Sprintf("r%d", minute)), func(r *v1alpha1.NodeRepair) {
					r.Status.FinishedAt = new(metaAt(in.Now))
				}))
			}
		}
		require.Len(t, tried, size)
	})
}
