package repair

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// wrongClock is off by so much from that of the API server.
type wrongClock struct {
	*clocktesting.FakeClock
	off time.Duration
}

func (c *wrongClock) Now() time.Time                  { return c.FakeClock.Now().Add(c.off) }
func (c *wrongClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// A step forward cuts a wait short, at most one replacement's. After a step back the fault may look younger than its
// toleration: the node is let go, and taken again when it is due.
func TestAClockThatStepsAtAnyWriteChangesNothingInTheEnd(t *testing.T) {
	writes := 0
	steppedAt := func(t *testing.T, k int, step time.Duration) {
		w := newWorld(t)
		clk := &wrongClock{FakeClock: w.clock}
		count := 0
		counted := func() {
			if count++; count == k {
				clk.off += step
			}
		}
		found := func() decision.Karpenter { return w.found }
		e := &Executor{
			Client: beforeEach(w.api, counted), Reader: w.api, Clock: clk, Recorder: events.NewFakeRecorder(10000),
			Snapshot: snapshot.NewGatherer(clk, w.api, found, true), Karpenter: found,
		}
		for range 1000 {
			if w.repair().Finished() {
				break
			}
			require.NoError(t, w.step(e))
			require.LessOrEqual(t, len(w.claims()), 2, "the sick node and one replacement at most")
		}
		w.isReplacedOrStands(step < 0)
		w.noFenceIsLeft()
		writes = max(writes, count)
	}
	steppedAt(t, 0, 0)
	require.Greater(t, writes, 4, "too few writes were seen for this test to mean anything")
	for k := range writes {
		for _, step := range []time.Duration{time.Hour, -time.Hour} {
			t.Run(fmt.Sprintf("by %s at write %d", step, k+1), func(t *testing.T) { steppedAt(t, k+1, step) })
		}
	}
}

func (w *world) isReplacedOrStands(mayStand bool) {
	w.t.Helper()
	repair, claims := w.repair(), w.claims()
	require.Len(w.t, claims, 1, "either the sick one or one replacement")
	if mayStand && repair.Status.Phase == v1alpha1.PhaseCanceled {
		require.Equal(w.t, repair.Spec.NodeClaim.UID, claims[0].UID)
		for _, r := range repair.Status.Replacements { // withdrawn, as Karpenter does it
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + r.NodeClaim}}
			require.NoError(w.t, client.IgnoreNotFound(w.api.Delete(context.Background(), node)))
		}
		return
	}
	require.Equal(w.t, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
	require.Equal(w.t, repair.Name, claims[0].Labels[v1alpha1.NodeRepairLabel])
}

// beforeEach calls do before every write.
func beforeEach(api client.WithWatch, do func()) client.Client {
	return interceptor.NewClient(api, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			do()
			return c.Create(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			do()
			return c.Patch(ctx, o, p, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			do()
			return c.Delete(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			do()
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
}
