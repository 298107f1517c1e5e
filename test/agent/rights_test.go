package agent

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestTheTokenOfAnAgentIsGoodForItsOwnNodeAlone(t *testing.T) {
	t.Parallel()
	s := begin(t, "rights")
	node := &corev1.Node{}
	require.NoError(t, s.c.Client.Get(s.ctx, client.ObjectKey{Name: s.node}, node))
	agent, err := s.c.AgentClient(s.ctx, node)
	require.NoError(t, err)

	of := func(name string) *v1alpha1.NodeHealth {
		h := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: name}, Sources: []v1alpha1.Source{{Name: "interfaces", State: v1alpha1.SourceActive}}}
		h.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("NodeHealth"))
		return h
	}
	write := func(name string) error {
		return agent.Patch(s.ctx, of(name), client.Apply, client.FieldOwner("autorepair.sh/agent"), client.ForceOwnership) //nolint:staticcheck // as the agent does
	}
	require.NoError(t, write(s.node))
	s.eventually("the NodeHealth of another node is refused", func() error {
		// The policy is in force a moment after it has been made.
		if err := write("another-node"); err == nil || !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
			return fmt.Errorf("the answer was: %v", err) //nolint:errorlint // may be nil
		}
		return nil
	})

	for what, try := range map[string]error{
		"reading pods":               agent.List(s.ctx, &corev1.PodList{}),
		"listing Nodes":              agent.List(s.ctx, &corev1.NodeList{}),
		"reading Secrets":            agent.List(s.ctx, &corev1.SecretList{}),
		"changing its Node":          agent.Patch(s.ctx, node.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`))),
		"changing its Node's status": agent.Status().Patch(s.ctx, node.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"status":{}}`))),
		"reading NodeHealths":        agent.List(s.ctx, &v1alpha1.NodeHealthList{}),
		"deleting its NodeHealth":    agent.Delete(s.ctx, of(s.node)),
	} {
		require.True(t, apierrors.IsForbidden(try), "%s must be forbidden: %v", what, try)
	}
}
