package turns

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

type heard struct{ lines []string }

func (h *heard) Eventf(regarding, _ runtime.Object, kind, reason, action, _ string, args ...any) {
	pool := regarding.(*karpv1.NodePool)
	h.lines = append(h.lines, fmt.Sprintf("%s/%s %s %s %s: %s", pool.Name, pool.UID, kind, reason, action, args[0]))
}

func (h *heard) said() []string {
	lines := h.lines
	h.lines = nil
	return lines
}

func TestASuspectDomainIsToldToEachNodePoolWithASickNodeAndSoIsItsEnd(t *testing.T) {
	pools := []karpv1.NodePool{{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "1"}}, {ObjectMeta: metav1.ObjectMeta{Name: "b", UID: "2"}}, {ObjectMeta: metav1.ObjectMeta{Name: "c", UID: "3"}}}
	api := fakeapi.Builder().WithLists(&karpv1.NodePoolList{Items: pools}).Build()
	board, told := disruption.NewBoard(nil), &heard{}
	c := NewController(clocktesting.NewFakeClock(time.Unix(0, 0)), api, told, board)
	look := func(suspects ...decision.Suspect) []string {
		board.Publish(decision.Result{Suspects: suspects})
		require.NoError(t, c.Look(context.Background()))
		return told.said()
	}
	zone := decision.Suspect{Kind: "zone", Name: "z", Nodes: 10, Sick: 4, Width: 1, NodePools: []string{"a", "b", "gone"}}
	require.Empty(t, look())
	said := look(zone)
	require.Len(t, said, 2)
	require.Contains(t, said[0], "a/1 Warning DomainSuspect zone: zone=z is suspect with 4 of 10 nodes sick")
	require.Contains(t, said[1], "b/2 Warning DomainSuspect zone:")
	zone.Sick, zone.Width = 5, 2
	require.Empty(t, look(zone), "how it fares is on the NodeClaims")
	require.Equal(t, []string{"a/1 Normal DomainCleared zone: zone=z is no longer suspect", "b/2 Normal DomainCleared zone: zone=z is no longer suspect"}, look())
	require.Empty(t, look())
}

func TestAPauseOfANodePoolIsToldWhenItBeginsAndWhenItEnds(t *testing.T) {
	before := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "before", UID: "1", Annotations: map[string]string{v1alpha1.PauseAnnotation: "true"}}}
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool", UID: "2"}}
	api := fakeapi.Builder().WithObjects(before, pool).Build()
	clk, told := clocktesting.NewFakeClock(time.Unix(0, 0)), &heard{}
	c := NewController(clk, api, told, disruption.NewBoard(nil))
	look := func() []string {
		require.NoError(t, c.Look(context.Background()))
		return told.said()
	}
	require.Empty(t, look(), "what stood before a restart is no news")
	pool.Annotations = map[string]string{v1alpha1.PauseAnnotation: "1970-01-01T00:10:00Z"}
	require.NoError(t, api.Update(context.Background(), pool))
	said := look()
	require.Len(t, said, 1)
	require.Contains(t, said[0], "pool/2 Normal RepairsPaused Pause: repairs of the NodePool are stopped by annotation autorepair.sh/pause on NodePool pool until 1970-01-01T00:10:00Z")
	require.Empty(t, look())
	clk.Step(time.Hour)
	require.Equal(t, []string{"pool/2 Normal RepairsResumed Pause: repairs of the NodePool are stopped no longer"}, look())
	require.Empty(t, look())
}
