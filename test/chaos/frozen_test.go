package chaos

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// committing is the write with which a repair begins. While it is held, so is the pass that makes it: no other repair
// begins.
const committing = "POST noderepairs (the sick one)"

// lateWrites are those with which a leader that was frozen may do harm when they arrive late.
var lateWrites = []string{
	"PATCH nodes (the sick one)",
	"POST nodeclaims (the replacement)",
	"DELETE nodeclaims (the sick one)",
	committing,
}

// frozen is a leader that has one of lateWrites on its way in each NodePool, and sleeps.
type frozen struct {
	*stage
	leader  *cluster.Controller
	claims  []karpv1.NodeClaim
	release chan struct{}

	mu      sync.Mutex // guards what follows
	sick    map[string]string
	waiting map[string]bool
	// arrived are the NodePools whose write was passed on in the end.
	arrived map[string]bool
}

// freezes begins a repair in each NodePool, holds one write of each, and freezes the leader.
func (s *stage) freezes() *frozen {
	s.Helper()
	f := &frozen{stage: s, leader: s.replicas(), release: make(chan struct{}), sick: map[string]string{}, waiting: map[string]bool{}, arrived: map[string]bool{}}
	for _, claim := range s.ledger.Claims() {
		f.sick[claim.Labels[karpv1.NodePoolLabelKey]] = claim.Name
	}
	s.proxy.reset(hooks{before: f.before})
	last := len(s.pools) - 1
	f.claims = s.breaks(s.pools[:last]...)
	f.holdsThoseOf(s.pools[:last])
	f.claims = append(f.claims, s.breaks(s.pools[last])...)
	f.holdsThoseOf(s.pools[last:])
	require.NoError(s, syscall.Kill(f.leader.PID(), syscall.SIGSTOP))
	return f
}

// before holds the first write of the role that the NodePool has in lateWrites.
func (f *frozen) before(w write) fate {
	pool := f.owner(w)
	i := slices.Index(f.pools, pool)
	f.mu.Lock()
	held := i >= 0 && !f.waiting[pool] && f.roleOf(w, f.sick[pool]) == lateWrites[i]
	if held {
		f.waiting[pool] = true
	}
	f.mu.Unlock()
	if !held {
		return pass
	}
	if !f.proxy.holds(f.release) {
		return cut
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.arrived[pool] = true
	return passLate
}

func (f *frozen) holdsThoseOf(pools []string) {
	f.Helper()
	f.eventually("the leader has a write on its way in "+strings.Join(pools, ", "), func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return missing(pools, f.waiting)
	})
}

func missing(pools []string, there map[string]bool) error {
	if left := lo.Reject(pools, func(pool string, _ int) bool { return there[pool] }); len(left) > 0 {
		return fmt.Errorf("none in %s", strings.Join(left, ", "))
	}
	return nil
}

// wakes lets the writes arrive, wakes the leader, and waits until it has ended, since it leads no longer.
func (f *frozen) wakes() {
	f.Helper()
	close(f.release)
	f.eventually("the writes have arrived", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return missing(f.pools, f.arrived)
	})
	time.Sleep(2 * time.Second) // their answers
	require.NoError(f, syscall.Kill(f.leader.PID(), syscall.SIGCONT))
	f.eventually("the first replica ends, since it leads no longer", func() error {
		if !f.leader.Ended() {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	time.Sleep(2 * time.Second) // whatever comes of it comes now
}

func TestTheLeaderFreezesAndItsWritesArriveLate(t *testing.T) {
	t.Run("when the other replica has repaired the nodes", func(t *testing.T) {
		f := begin(t, "frozen-sick", len(lateWrites)).freezes()
		f.ends(f.claims)
		f.wakes()
		f.ends(f.claims)
	})
	t.Run("when the nodes have recovered", func(t *testing.T) {
		f := begin(t, "frozen-healed", len(lateWrites)).freezes()
		for _, claim := range f.claims {
			require.NoError(t, shared.Heal(f.ctx, claim.Status.NodeName))
		}
		f.standStill()
		f.wakes()
		f.standStill()
	})
}

// standStill waits until every repair has ended and nothing of it is left, and holds that the nodes are those of before.
func (f *frozen) standStill() {
	f.Helper()
	f.eventually("the repairs are let go", func() error {
		for _, repair := range f.ledger.Repairs() {
			if !repair.Finished() {
				return fmt.Errorf("%s is %s: %s", repair.Name, repair.Status.Phase, repair.Status.Message)
			}
		}
		return f.settled()
	})
	for _, claim := range f.claims {
		require.False(f, f.ledger.Fates()[claim.UID].Deleted, "the node of %s had recovered", claim.Name)
	}
}
