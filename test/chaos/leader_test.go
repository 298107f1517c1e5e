package chaos

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// replicas starts two controllers that elect a leader, as the manifests have it, and gives the one that leads.
func (s *stage) replicas() *cluster.Controller {
	s.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.ServiceAccount.Namespace, Name: v1alpha1.LeaseName}}
	require.NoError(s, client.IgnoreNotFound(shared.Client.Delete(s.ctx, lease)))
	start := func() *cluster.Controller {
		c, err := shared.StartControllerThrough(s.ctx, s.proxy.server.URL, s.proxy.ca())
		require.NoError(s, err)
		s.Cleanup(c.Kill)
		return c
	}
	leader := start()
	s.eventually("the first replica leads", func() error {
		if err := shared.Client.Get(s.ctx, client.ObjectKeyFromObject(lease), lease); err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return fmt.Errorf("nobody does")
		}
		return nil
	})
	start()
	return leader
}

func TestTheLeaderEndsInTheMiddleOfARepair(t *testing.T) {
	for name, end := range map[string]struct {
		stage, turn string
		do          func(*cluster.Controller)
	}{
		"it is killed":                 {"leader-killed", "DELETE nodeclaims (the sick one)", (*cluster.Controller).Kill},
		"it is asked to end (SIGTERM)": {"leader-ended", "POST nodeclaims (the replacement)", func(c *cluster.Controller) { go func() { _ = c.Stop() }() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, end.stage, 1)
			leader := s.replicas()
			sick := s.ledger.Claims()[0].Name
			s.proxy.reset(s.at(end.turn, sick, func() { end.do(leader) }))
			s.ends(s.breaks(s.pools[0]))
			s.eventually("the first replica has ended", func() error {
				if !leader.Ended() {
					return fmt.Errorf("it runs")
				}
				return nil
			})
		})
	}
}
