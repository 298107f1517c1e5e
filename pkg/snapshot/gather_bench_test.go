package snapshot

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// shelf gives what it holds, as a cache does that copies nothing.
type shelf struct {
	client.Reader
	nodes      []corev1.Node
	nodeClaims []karpv1.NodeClaim
	health     []v1alpha1.NodeHealth
}

func (s shelf) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch list := list.(type) {
	case *corev1.NodeList:
		list.Items = s.nodes
	case *karpv1.NodeClaimList:
		list.Items = s.nodeClaims
	case *v1alpha1.NodeHealthList:
		list.Items = s.health
	case *karpv1.NodePoolList:
		list.Items = []karpv1.NodePool{*nodePool()}
	case *v1alpha1.RepairPolicyList:
		list.Items = []v1alpha1.RepairPolicy{*policy()}
	case *corev1.PodList:
		list.Items = []corev1.Pod{*pod("a", nil), *pod("b", nil)}
	}
	return nil
}

// BenchmarkGather reads clusters in which one node of ten is sick; the time grows with the nodes and not faster.
func BenchmarkGather(b *testing.B) {
	for _, size := range []int{500, 5_000, 50_000} {
		b.Run(fmt.Sprintf("%d nodes", size), func(b *testing.B) {
			full := shelf{}
			for i := range size {
				name := fmt.Sprintf("n%d", i)
				claim, machine, sick := nodeClaim(), node(), health()
				claim.Name, claim.UID, claim.Status.ProviderID = name, types.UID(name), name
				machine.Name, machine.Spec.ProviderID = name, name
				sick.ObjectMeta = metav1.ObjectMeta{Name: name}
				if i%10 != 0 {
					sick.Findings = nil
				}
				full.nodeClaims, full.nodes, full.health = append(full.nodeClaims, *claim), append(full.nodes, *machine), append(full.health, *sick)
			}
			gatherer := NewGatherer(clocktesting.NewFakeClock(now), full, func() decision.Karpenter { return decision.Karpenter{} }, true)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := gatherer.Gather(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
