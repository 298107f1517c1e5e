package chaos

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// side of a write at which the process ends.
type side string

const (
	beforeIt side = "before"
	afterIt  side = "after"
)

// moment is one at which the process is killed: when it makes a write of this role for the first time, either before
// the API server sees it, or after it has taken it and before the answer comes.
type moment struct {
	side
	role string
}

// mortal is a controller that is killed (-9) at one moment of each NodePool's repair, and started again each time.
type mortal struct {
	*stage
	died chan struct{}

	mu      sync.Mutex // guards what follows
	running *cluster.Controller
	// dead until the next process runs: what still comes from the last one moves nothing.
	dead  bool
	sick  map[string]karpv1.NodeClaim
	fates map[string]moment
	// met are the moments that came.
	met map[moment]bool
}

func newMortal(s *stage) *mortal {
	m := &mortal{stage: s, died: make(chan struct{}, 1), met: map[moment]bool{}}
	m.running = s.controller()
	return m
}

// at kills the process where the moment has come.
func (m *mortal) at(w write, now side) fate {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return cut
	}
	pool := m.owner(w)
	planned, ok := m.fates[pool]
	if !ok || planned.side != now || planned.role != m.role(w, m.sick[pool]) {
		return pass
	}
	delete(m.fates, pool)
	m.met[planned] = true
	m.dead = true
	m.running.Kill()
	m.died <- struct{}{}
	return cut
}

// repairs breaks a node in each of the NodePools that have a moment planned, kills the process at each of them, and
// holds what every end must show.
func (m *mortal) repairs(plan map[string]moment) {
	m.Helper()
	m.mu.Lock()
	m.fates, m.sick = plan, map[string]karpv1.NodeClaim{}
	pools := sorted(lo.Keys(plan))
	for _, claim := range m.ledger.Claims() {
		m.sick[claim.Labels[karpv1.NodePoolLabelKey]] = claim
	}
	m.mu.Unlock()
	m.proxy.reset(hooks{
		before: func(w write) fate { return m.at(w, beforeIt) },
		after:  func(w write) fate { return m.at(w, afterIt) },
	})
	claims := m.breaks(pools...)
	over := time.Now().Add(patience)
	for m.ended(claims) != nil && time.Now().Before(over) {
		select {
		case <-m.died:
			next := m.controller()
			m.mu.Lock()
			m.running, m.dead = next, false
			m.mu.Unlock()
		case <-time.After(50 * time.Millisecond):
		}
	}
	m.ends(claims)
}

// rolesOf gives what a repair that nobody hinders writes, in order.
func (m *mortal) rolesOf(pool string) []string {
	m.Helper()
	m.repairs(map[string]moment{pool: {}})
	return lo.Uniq(lo.FilterMap(m.proxy.seen(), func(w write, _ int) (string, bool) {
		return m.role(w, m.sick[pool]), m.owner(w) == pool
	}))
}

func TestTheControllerIsKilledAtEveryWriteOfARepair(t *testing.T) {
	m := newMortal(begin(t, "kill", 12))
	// A process that has just started writes more: what it finds of all nodes.
	m.repairs(map[string]moment{m.pools[0]: {}})
	var moments []moment
	for _, role := range m.rolesOf(m.pools[0]) {
		t.Log(role)
		moments = append(moments, moment{beforeIt, role}, moment{afterIt, role})
	}
	require.Greater(t, len(moments), 2*12, "too few writes were seen for this test to mean anything")
	// Each NodePool has its own moment; what kills the process for one is one kill more for the others.
	for range 3 {
		for _, some := range lo.Chunk(lo.Filter(moments, func(m2 moment, _ int) bool { return !m.met[m2] }), len(m.pools)) {
			plan := map[string]moment{}
			for i, planned := range some {
				plan[m.pools[i]] = planned
			}
			m.repairs(plan)
		}
	}
	t.Logf("the process was killed at %d moments", len(m.met))
	told := 0
	for _, planned := range moments {
		switch met := m.met[planned]; {
		case !isTold(planned.role):
			require.True(t, met, "the moment %s %q never came", planned.side, planned.role)
		case met:
			told++
		default:
			t.Logf("the moment %s %q came only where nobody was killed: the next step was told instead", planned.side, planned.role)
		}
	}
	require.Positive(t, told, "no step was told on the NodeClaim")
}

// isTold says that a write tells a step of a repair on the NodeClaim. Where the next step follows soon enough, that is
// told in its stead.
func isTold(role string) bool {
	return strings.HasPrefix(role, "PATCH nodeclaims/status (the sick one)") && strings.Contains(role, " Repairing=")
}
