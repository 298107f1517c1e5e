package chaos

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/operator"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// replicas starts two controllers that elect a leader, as the manifests have it, and gives the one that leads.
func (s *stage) replicas() *cluster.Controller {
	s.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.ServiceAccount.Namespace, Name: operator.LeaseName}}
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

// heldWrites are those with which a leader that was frozen may do harm when they arrive late.
var heldWrites = []string{
	"POST noderepairs (the sick one)",
	"PATCH nodes (the sick one)",
	"POST nodeclaims (the replacement)",
	"DELETE nodeclaims (the sick one)",
}

// TestTheLeaderFreezesAndItsWritesArriveLate freezes the leader with a write on its way in each of the pools; the other
// replica takes over and repairs them all; then those writes arrive, and the first one wakes.
func TestTheLeaderFreezesAndItsWritesArriveLate(t *testing.T) {
	s := begin(t, "frozen", len(heldWrites))
	leader := s.replicas()
	sick := map[string]string{}
	for _, claim := range s.ledger.Claims() {
		sick[s.owner(write{What: claim.Name})] = claim.Name
	}
	var holding sync.WaitGroup
	holding.Add(len(heldWrites))
	held, release := map[string]bool{}, make(chan struct{})
	var mu sync.Mutex
	s.proxy.reset(hooks{before: func(w write) fate {
		pool := s.owner(w)
		for i, role := range heldWrites {
			mu.Lock()
			mine := pool == s.pools[i] && !held[pool] && s.roleOf(w, sick[pool]) == role
			held[pool] = held[pool] || mine
			mu.Unlock()
			if mine {
				holding.Done()
				<-release
				return passLate
			}
		}
		return pass
	}})
	claims := s.breaks(s.pools...)
	all := make(chan struct{})
	go func() { holding.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(patience):
		require.FailNow(t, "the leader never had a write on its way in every pool")
	}
	require.NoError(t, syscall.Kill(leader.PID(), syscall.SIGSTOP))
	s.eventually("the other replica repairs them all", func() error { return s.ended(claims) })
	s.ends(claims)
	close(release)
	require.NoError(t, syscall.Kill(leader.PID(), syscall.SIGCONT))
	s.eventually("the first replica ends, since it leads no longer", func() error {
		if !leader.Ended() {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	time.Sleep(2 * time.Second) // whatever comes of it comes now
	s.ends(claims)
}
