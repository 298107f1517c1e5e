package cli

import (
	"fmt"
	"io"
	"testing"

	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// BenchmarkStatus reckons and prints the status of fleets of which every tenth node is sick. What is left out is the
// reading: see test/kubectl.
func BenchmarkStatus(b *testing.B) {
	for _, size := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("%d nodes", size), func(b *testing.B) {
			f := &fleet{}
			f.add(nodePool("default", "1", nil), repairPolicy("default", nil))
			for i := range size {
				name := fmt.Sprintf("n%d", i)
				if i%10 == 0 {
					f.machine("default", name, finding("InterfaceNotUp", "eth1", 20*60e9))
				} else {
					f.machine("default", name)
				}
			}
			full := &Fleet{Now: now}
			for _, object := range f.objects {
				switch object := object.(type) {
				case *karpv1.NodePool:
					full.NodePools = append(full.NodePools, *object)
				case *karpv1.NodeClaim:
					full.NodeClaims = append(full.NodeClaims, *object)
				case *corev1.Node:
					full.Nodes = append(full.Nodes, *object)
				case *v1alpha1.NodeHealth:
					full.Health = append(full.Health, *object)
				case *v1alpha1.RepairPolicy:
					full.Policies = append(full.Policies, *object)
				}
			}
			w := newWorld()
			for b.Loop() {
				status, err := statusOf(b.Context(), full)
				if err != nil {
					b.Fatal(err)
				}
				if err := w.printTo(io.Discard, status); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
