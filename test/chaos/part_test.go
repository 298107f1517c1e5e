package chaos

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

// atEveryTurn ends a part of the cluster at every turn of a repair, and starts it again.
func atEveryTurn(t *testing.T, name, part string, verbs ...string) {
	s := begin(t, name, 1)
	s.controller()
	for i, turn := range turns {
		verb := verbs[i%len(verbs)]
		t.Run(fmt.Sprintf("%s at %s", verb, turn), func(t *testing.T) {
			s := s.under(t)
			// The node breaks after the hook is set: its NodeClaim is known before.
			sick := s.ledger.Claims()[0].Name
			ended := make(chan error, 1)
			s.proxy.reset(s.at(turn, sick, func() {
				err := shared.Part(s.ctx, verb, part)
				go func() {
					time.Sleep(time.Second)
					ended <- errors.Join(err, shared.Part(s.ctx, "start", part))
				}()
			}))
			defer s.proxy.reset(hooks{})
			claims := s.breaks(s.pools[0])
			select {
			case err := <-ended:
				require.NoError(t, err)
			case <-time.After(patience):
				require.FailNow(t, "the turn never came")
			}
			s.ends(claims)
		})
	}
}

func TestKarpenterIsKilledAtEveryTurnOfARepair(t *testing.T) {
	atEveryTurn(t, "karpenter", "karpenter", "kill")
}

func TestTheAPIServerEndsAtEveryTurnOfARepair(t *testing.T) {
	atEveryTurn(t, "apiserver", "apiserver", "stop", "kill")
}
