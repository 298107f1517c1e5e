package decision

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// budgeted is an Input as it is inside Karpenter, which has reckoned that the budget admits so many.
func budgeted(n int) inputOption {
	return func(in *Input) { in.Budgets = map[string]int{"default": n} }
}

func taken(n *Node)    { n.KarpenterDisrupting = true }
func onItsWay(n *Node) { n.Deleting = true }

func TestInsideKarpenterWhatItsQueueRepairsIsAtWork(t *testing.T) {
	for name, tt := range map[string]struct {
		nodes []Node
		want  []string // that are admitted
	}{
		"a suspect domain is probed by one": {nodes: append(wells(3), sicks(3)...), want: []string{"sick-0"}},
		"which is waited for while its replacement comes": {
			nodes: append(wells(3), append(sicks(3), sick("probe", taken))...),
		},
		"and while it leaves": {
			nodes: append(wells(3), append(sicks(3), sick("probe", onItsWay))...),
		},
		"a node that Karpenter takes for reasons of its own is no probe": {
			nodes: append(wells(3), append(sicks(3), node("drifted", taken))...), want: []string{"sick-0"},
		},
		"where no domain is suspect all go that the budget admits": {
			nodes: append(wells(20), append(sicks(3), sick("probe", taken))...), want: []string{"sick-0", "sick-1", "sick-2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.ElementsMatch(t, tt.want, admitted(Decide(input(tt.nodes, budgeted(10)))))
		})
	}
}
