package decision

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// fleet of nodes in ten NodePools and three zones, every tenth of them sick, with the budgets open and slow start in
// the way of nobody, so that as much as possible is decided; and a history of a hundred repairs.
func fleet(size int) Input {
	in := input(nil)
	for p := range 10 {
		name := fmt.Sprintf("pool-%d", p)
		in.NodePools[name] = NodePool{Object: pool(name, budgetOf("5%"), cpuLimit("1000000", "4"))}
	}
	for i := range size {
		n := node(fmt.Sprintf("claim-%06d", i), inPool(fmt.Sprintf("pool-%d", i/10%10)), inZone(fmt.Sprintf("zone-%d", i%3)),
			func(n *Node) { n.InstanceType, n.Image = "m5.large", "ami-1" })
		if i%10 == 0 {
			j := judgement(eligibleAgo(time.Duration(i%7)*time.Minute), ranked(int32(i/10%3)))
			n.Verdict = verdict(policy(), j)
			n.DisruptionCost = float64(i % 11)
		}
		in.Nodes = append(in.Nodes, n)
	}
	for i := range 100 {
		in.Repairs = append(in.Repairs, repair(fmt.Sprintf("past-%d", i), v1alpha1.PhaseSucceeded, endedAgo(time.Duration(i)*time.Minute)))
	}
	return in
}

func BenchmarkDecide(b *testing.B) {
	for _, size := range []int{500, 5_000, 50_000} {
		b.Run(fmt.Sprintf("nodes=%d", size), func(b *testing.B) {
			in := fleet(size)
			result := Decide(in)
			require.Len(b, result.Decisions, size/10)
			b.ReportAllocs()
			for b.Loop() {
				Decide(in)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/node")
		})
	}
}

// A storm is the dearest case: everything is sick, and nearly everything is held back and has to be told why.
func BenchmarkDecideStorm(b *testing.B) {
	in := fleet(5_000)
	for i := range in.Nodes {
		in.Nodes[i].Verdict = verdict(policy(), judgement())
	}
	b.ReportAllocs()
	for b.Loop() {
		Decide(in)
	}
}
