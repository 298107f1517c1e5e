// Package disruption holds the disruption Method and what it needs to run beside an unmodified Karpenter or
// inside one.
package disruption

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// Board shows the newest decision about every sick node to whoever explains it. It is no state of record: it is
// made anew by each pass of the Method.
type Board struct {
	mu        sync.RWMutex
	decisions map[types.UID]decision.Decision
	next      time.Time
	suspects  []decision.Suspect
	changed   func(nodeClaim string)
}

// NewBoard makes an empty board. changed is called, outside of any lock, with the name of each NodeClaim whose
// decision has changed; it may be nil.
func NewBoard(changed func(nodeClaim string)) *Board {
	return &Board{decisions: map[types.UID]decision.Decision{}, changed: changed}
}

// Publish replaces everything on the board.
func (b *Board) Publish(result decision.Result) {
	next := make(map[types.UID]decision.Decision, len(result.Decisions))
	for _, d := range result.Decisions {
		next[d.Node.NodeClaimUID] = d
	}
	b.mu.Lock()
	previous := b.decisions
	b.decisions = next
	b.next = result.NextChange
	b.suspects = result.Suspects
	b.mu.Unlock()
	if b.changed == nil {
		return
	}
	for uid, d := range next {
		if was, ok := previous[uid]; !ok || !sameExplanation(was, d) {
			b.changed(d.Node.NodeClaim)
		}
	}
	for uid, was := range previous {
		if _, ok := next[uid]; !ok {
			b.changed(was.Node.NodeClaim)
		}
	}
}

// Get gives the newest decision about a NodeClaim; false where there is none.
func (b *Board) Get(nodeClaim types.UID) (decision.Decision, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d, ok := b.decisions[nodeClaim]
	return d, ok
}

// All gives the newest decisions about all sick nodes, in no order.
func (b *Board) All() []decision.Decision {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Collect(maps.Values(b.decisions))
}

// Suspects gives the domains that the newest pass found suspect, by kind and name. The list is shared: it is not to be
// written to.
func (b *Board) Suspects() []decision.Suspect {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.suspects
}

// NextChange is the earliest moment at which a decision can change by itself; zero where none does.
func (b *Board) NextChange() time.Time {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.next
}

func sameExplanation(a, b decision.Decision) bool {
	return a.Admitted == b.Admitted && a.Action == b.Action && a.TerminateFirst == b.TerminateFirst && a.Note == b.Note &&
		cmp.Equal(a.Blockers, b.Blockers, cmpopts.EquateEmpty())
}
