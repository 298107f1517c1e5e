package decision

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestSuspectsAreListedWithWhatTheyMayDo(t *testing.T) {
	ok, bad := v1alpha1.PhaseSucceeded, v1alpha1.PhaseFailed
	for name, test := range map[string]struct {
		nodes   []Node
		repairs []v1alpha1.NodeRepair
		want    []Suspect
	}{
		"a fifth of a domain is not suspect": {nodes: append(wells(8), sicks(2)...)},
		"more is, and one repair starts there": {
			nodes: append(wells(7), sicks(3)...),
			want:  []Suspect{{Kind: "nodepool", Name: "default", Nodes: 10, Sick: 3, Width: 1, Repairing: 1, NodePools: []string{"default"}}},
		},
		"successes make it wider": {
			nodes: append(wells(7), sicks(3)...), repairs: ended(2*time.Minute, ok),
			want: []Suspect{{Kind: "nodepool", Name: "default", Nodes: 10, Sick: 3, Width: 2, Repairing: 2, NodePools: []string{"default"}}},
		},
		"a failure lets it pause": {
			nodes: append(wells(7), sicks(3)...), repairs: ended(0, bad),
			want: []Suspect{{
				Kind: "nodepool", Name: "default", Nodes: 10, Sick: 3, Width: 1, PausedUntil: noon.Add(time.Minute), NodePools: []string{"default"},
			}},
		},
		"a zone with nodes of two NodePools": {
			nodes: slices.Concat(sicks(1, inZone("z1"), inPool("b")), []Node{sick("x", inZone("z1"), inPool("a"))}, wells(2, inZone("z1"), inPool("b")),
				wells(20, inZone("z2"), inPool("b")), wells(20, inZone("z2"), inPool("a"))),
			want: []Suspect{{Kind: "zone", Name: "z1", Nodes: 4, Sick: 2, Width: 1, NodePools: []string{"a", "b"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(test.nodes, withRepairs(test.repairs...))
			got := Decide(in).Suspects
			for i := range test.want {
				if len(got) > i && test.want[i].Kind == "zone" {
					got[i].Repairing = 0 // other gates decide about that
				}
			}
			require.Equal(t, test.want, got)
			slices.Reverse(in.Nodes)
			again := Decide(in).Suspects
			require.Len(t, again, len(got))
			for i := range got {
				require.Equal(t, got[i].NodePools, again[i].NodePools, "whatever the order of the nodes")
			}
		})
	}
}

func TestWherePoliciesDisagreeOneIsEnough(t *testing.T) {
	lenient := judged(policy(maxUnhealthy("50%")), judgement())
	strict := judged(policy(maxUnhealthy("10%")), judgement())
	require.Empty(t, Decide(input(append(wells(7), sicks(3, lenient)...))).Suspects)
	require.Len(t, Decide(input(append(wells(7), append(sicks(2, lenient), sick("x", strict))...))).Suspects, 1)
}
