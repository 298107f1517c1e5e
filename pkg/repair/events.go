package repair

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/samber/lo"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// What the API takes at most; see v1alpha1.RepairEvidence.
	maxEvidenceEvents = 20
	maxEventRunes     = 500
	// eventsServeFor is how long one list serves: the API server reads every event of the cluster for it, and many
	// repairs begin together.
	eventsServeFor = 5 * time.Second
)

// nodeEvents are the last events about each Node, one line each, newest last. They are read past the cache: nobody
// else needs them.
type nodeEvents struct {
	mu     sync.Mutex
	read   time.Time
	byNode map[string][]string
}

// of gives the last events of a Node.
func (n *nodeEvents) of(ctx context.Context, reader client.Reader, clk clock.PassiveClock, name string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byNode == nil || clk.Since(n.read) >= eventsServeFor {
		list := &eventsv1.EventList{}
		aboutNodes := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("regarding.kind", "Node")}
		if err := reader.List(ctx, list, aboutNodes); err != nil {
			return nil, fmt.Errorf("listing the events of nodes, %w", err)
		}
		byNode := lo.GroupBy(list.Items, func(event eventsv1.Event) string { return event.Regarding.Name })
		n.byNode = lo.MapValues(byNode, func(events []eventsv1.Event, _ string) []string { return lines(events) })
		n.read = clk.Now()
	}
	return n.byNode[name], nil
}

func lines(events []eventsv1.Event) []string {
	slices.SortFunc(events, func(a, b eventsv1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return lo.Map(events[max(0, len(events)-maxEvidenceEvents):], func(event eventsv1.Event, _ int) string {
		return lo.Substring(fmt.Sprintf("%s %s %s: %s", event.CreationTimestamp.UTC().Format(time.RFC3339), event.Type, event.Reason, event.Note), 0, maxEventRunes)
	})
}
