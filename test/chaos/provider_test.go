package chaos

import (
	"errors"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// bootsWithin is how long Karpenter's kwok provider may take to make the Node of what it has launched.
const bootsWithin = 15 * time.Second

// boots does what an instance does and Karpenter's kwok provider does not: where the API server is away at that moment, the
// provider tries five times within a second to make the Node of what it has launched, and then never again.
func (s *stage) boots() error {
	var errs []error
	nodes := lo.SliceToMap(s.ledger.Nodes(), func(n corev1.Node) (string, bool) { return n.Spec.ProviderID, true })
	for _, claim := range s.ledger.Claims() {
		launched := claim.StatusConditions().Get(karpv1.ConditionTypeLaunched)
		if claim.Status.ProviderID == "" || nodes[claim.Status.ProviderID] || claim.Status.NodeName != "" || !claim.DeletionTimestamp.IsZero() ||
			!launched.IsTrue() || time.Since(launched.LastTransitionTime.Time) < bootsWithin {
			continue
		}
		s.Logf("the provider has lost the Node of NodeClaim %s", claim.Name)
		errs = append(errs, client.IgnoreAlreadyExists(shared.Client.Create(s.ctx, nodeOf(claim))))
	}
	return errors.Join(errs...)
}

// nodeOf is the Node that the kwok provider would have made of a NodeClaim that it has launched.
func nodeOf(claim karpv1.NodeClaim) *corev1.Node {
	const provider, mark, fake = "kwok://", "kwok.x-k8s.io/node", "fake"
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   claim.Status.ProviderID[len(provider):],
			Labels: lo.Assign(claim.Labels, map[string]string{mark: fake}), Annotations: map[string]string{mark: fake},
		},
		Spec:   corev1.NodeSpec{ProviderID: claim.Status.ProviderID, Taints: []corev1.Taint{karpv1.UnregisteredNoExecuteTaint}},
		Status: corev1.NodeStatus{Capacity: claim.Status.Capacity, Allocatable: claim.Status.Allocatable, Phase: corev1.NodePending},
	}
}
