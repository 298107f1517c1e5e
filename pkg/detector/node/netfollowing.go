package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host/links"
)

// netWake is the channel of a detector.Waker.
type netWake chan struct{}

func newNetWake() netWake { return make(netWake, 1) }

// raise never waits: one value is enough, however much there is that is new.
func (w netWake) raise() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// netFollowing is whether events come, as a follower tells it and a look asks it.
type netFollowing struct {
	mu  sync.Mutex
	err error
}

func (f *netFollowing) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// degraded is empty while events come, and before anything was asked to follow them.
func (f *netFollowing) degraded(what string, interval time.Duration) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		return ""
	}
	return fmt.Sprintf("no events of %s, which are looked at every %s instead: %v", what, interval, f.err)
}

func netInterval(configured metav1.Duration, otherwise time.Duration) time.Duration {
	if configured.Duration > 0 {
		return configured.Duration
	}
	return otherwise
}

// netMemory is a cursor that holds only in one network namespace: indexes of links and routes mean nothing elsewhere.
type netMemory[T any] struct {
	Namespace uint64 `json:"namespace"`
	Kept      T      `json:"kept"`
}

// netRemember is the cursor of what is kept; nil where the namespace has no name.
func netRemember[T any](space links.Namespace, kept T) json.RawMessage {
	id, err := space.ID()
	if err != nil {
		return nil
	}
	cursor, err := json.Marshal(netMemory[T]{Namespace: id, Kept: kept})
	if err != nil {
		return nil
	}
	return cursor
}

// netRecall reads a cursor of netRemember, if it is of this boot and this namespace.
func netRecall[T any](space links.Namespace, cursor json.RawMessage, sameBoot bool) (kept T, ok bool) {
	var memory netMemory[T]
	if !sameBoot || json.Unmarshal(cursor, &memory) != nil {
		return kept, false
	}
	id, err := space.ID()
	return memory.Kept, err == nil && id == memory.Namespace
}

// netBestRoutes gives for each family the route that the kernel uses: the one with the lowest metric.
func netBestRoutes(routes []links.Route) map[string]links.Route {
	best := map[string]links.Route{}
	for _, r := range routes {
		if b, found := best[r.Family]; !found || r.Metric < b.Metric {
			best[r.Family] = r
		}
	}
	return best
}

func netMember(set []string, member string, with bool) []string {
	switch {
	case with && !slices.Contains(set, member):
		return append(set, member)
	case !with:
		return slices.DeleteFunc(set, func(s string) bool { return s == member })
	}
	return set
}
