package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// said is a condition of the NodeClaim as it was written once.
type said struct {
	At, Transition  time.Time
	Type            string
	Status          metav1.ConditionStatus
	Reason, Message string
}

// record holds every state that the conditions of the scenario's NodeClaim ever had.
type record struct {
	s *scenario

	mu   sync.Mutex
	said []said
}

func newRecord(s *scenario) *record {
	r := &record{s: s}
	ctx, cancel := context.WithCancel(s.ctx)
	finished := make(chan struct{})
	w, err := r.watch(ctx)
	require.NoError(s, err)
	go func() {
		defer close(finished)
		for ctx.Err() == nil {
			r.follow(w)
			// The API server went away; what it had to say meanwhile nobody has seen.
			for w, err = r.watch(ctx); err != nil && ctx.Err() == nil; w, err = r.watch(ctx) {
				time.Sleep(200 * time.Millisecond)
			}
		}
	}()
	s.Cleanup(func() { cancel(); <-finished })
	return r
}

// watch begins with the NodeClaims as they are.
func (r *record) watch(ctx context.Context) (watch.Interface, error) {
	return r.s.c.Client.Watch(ctx, &karpv1.NodeClaimList{}, client.MatchingLabels{karpv1.NodePoolLabelKey: r.s.name})
}

func (r *record) follow(w watch.Interface) {
	defer w.Stop()
	for event := range w.ResultChan() {
		claim, ok := event.Object.(*karpv1.NodeClaim)
		if !ok || claim.Status.NodeName != r.s.node {
			continue
		}
		for _, c := range claim.Status.Conditions {
			if strings.HasPrefix(c.Type, v1alpha1.Group+"/") {
				r.add(said{At: time.Now(), Transition: c.LastTransitionTime.Time, Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message})
			}
		}
	}
}

func (r *record) add(new said) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.last(new.Type); last.Status != new.Status || last.Reason != new.Reason || last.Message != new.Message || !last.Transition.Equal(new.Transition) {
		r.said = append(r.said, new)
	}
}

func (r *record) last(conditionType string) said {
	for i := len(r.said) - 1; i >= 0; i-- {
		if r.said[i].Type == conditionType {
			return r.said[i]
		}
	}
	return said{}
}

// now is what the NodeClaim says of a category; empty where it says nothing.
func (r *record) now(category v1alpha1.Category) said {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last(health.ConditionType(category))
}

// states of a category from a moment on, each written once however often its message changed.
func (r *record) states(category v1alpha1.Category, since time.Time) []metav1.ConditionStatus {
	var out []metav1.ConditionStatus
	for _, s := range r.since(category, since) {
		if len(out) == 0 || out[len(out)-1] != s.Status {
			out = append(out, s.Status)
		}
	}
	return out
}

// transitions gives how many times the last transition of a category has moved since a moment.
func (r *record) transitions(category v1alpha1.Category, since time.Time) int {
	moved := map[time.Time]bool{}
	for _, s := range r.since(category, since) {
		moved[s.Transition] = true
	}
	return len(moved)
}

func (r *record) since(category v1alpha1.Category, since time.Time) []said {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []said
	for _, s := range r.said {
		if s.Type == health.ConditionType(category) && !s.At.Before(since) {
			out = append(out, s)
		}
	}
	return out
}

// String is for a person who looks for what went wrong.
func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := make([]string, 0, len(r.said))
	for _, s := range r.said {
		lines = append(lines, fmt.Sprintf("%s  %s %s %s: %s", s.At.UTC().Format("15:04:05.000"), s.Type, s.Status, s.Reason, s.Message))
	}
	return strings.Join(lines, "\n")
}
