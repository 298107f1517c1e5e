package chaos

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// turns of a repair: the writes with which its phases begin, and the delete.
var turns = []string{
	"POST noderepairs (the sick one)",
	"PATCH nodes (the sick one)",
	"POST nodeclaims (the replacement)",
	"PATCH noderepairs/status (the sick one) Waiting",
	"DELETE nodeclaims (the sick one)",
	"PATCH noderepairs/status (the sick one) Verifying",
}

// at calls do once, when the API server has taken the first write of the role and before its answer is passed on.
func (s *stage) at(role, sick string, do func()) hooks {
	var once sync.Once
	return hooks{after: func(w write) fate {
		if s.owner(w) == s.pools[0] && s.roleOf(w, sick) == role {
			once.Do(do)
		}
		return pass
	}}
}

// atEveryTurn ends a part of the cluster when the repair of a NodePool takes its turn, each time at another one, and
// starts it again. The repairs go on side by side, so each of them lives through all of it.
func atEveryTurn(t *testing.T, part string, turns []string, verbs ...string) {
	s := begin(t, part, len(turns))
	s.controller()
	sick := map[string]string{}
	for _, claim := range s.ledger.Claims() {
		sick[claim.Labels[karpv1.NodePoolLabelKey]] = claim.Name
	}
	var mu sync.Mutex // held while the part is away
	came := map[string]bool{}
	var errs []error
	s.proxy.reset(hooks{after: func(w write) fate {
		pool := s.owner(w)
		i := slices.Index(s.pools, pool)
		if i < 0 || s.roleOf(w, sick[pool]) != turns[i] {
			return pass
		}
		mu.Lock()
		defer mu.Unlock()
		if !came[turns[i]] {
			came[turns[i]] = true
			errs = append(errs, shared.Part(s.ctx, verbs[i%len(verbs)], part))
			time.Sleep(time.Second)
			errs = append(errs, shared.Part(s.ctx, "start", part))
		}
		return pass
	}})
	s.ends(s.breaks(s.pools...))
	mu.Lock()
	defer mu.Unlock()
	require.NoError(t, errors.Join(errs...))
	for _, turn := range turns {
		require.True(t, came[turn], "the turn %q never came", turn)
	}
}

func TestKarpenterIsKilledAtEveryTurnOfARepair(t *testing.T) {
	atEveryTurn(t, "karpenter", turns, "kill")
}

// Three times only: after each, all that watches waits for longer before it tries again.
func TestTheAPIServerEndsInTheMiddleOfARepair(t *testing.T) {
	atEveryTurn(t, "apiserver", []string{turns[1], turns[2], turns[4]}, "stop", "kill")
}
