package events

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

type heard struct{ notes map[string][]string }

func (h *heard) Eventf(_, _ runtime.Object, _, reason, _, _ string, args ...any) {
	h.notes[reason] = append(h.notes[reason], args[0].(string))
}

func TestAStormOfOneReasonIsCutAndLeavesRoomForTheOthers(t *testing.T) {
	clk := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	h := &heard{notes: map[string][]string{}}
	handedOn, dropped := map[string]int{}, map[string]int{}
	r := NewRecorder(h, clk, func(reason string, ok bool) {
		if ok {
			handedOn[reason]++
		} else {
			dropped[reason]++
		}
	})
	tell := func(reason string, n int) {
		for range n {
			r.Eventf(Node("node"), nil, "Normal", reason, "Test", "%d%%", 5)
		}
	}
	tell("A", 5000)
	tell("B", 1)
	require.Len(t, h.notes["A"], burst)
	require.Equal(t, []string{"5%"}, h.notes["B"])
	require.Equal(t, map[string]int{"A": burst, "B": 1}, handedOn)
	require.Equal(t, map[string]int{"A": 5000 - burst}, dropped)
	clk.SetTime(clk.Now().Add(time.Second))
	tell("A", 5000)
	require.Len(t, h.notes["A"], burst+perSecond)
}

func TestALongNoteIsCutBetweenRunes(t *testing.T) {
	h := &heard{notes: map[string][]string{}}
	r := NewRecorder(h, clocktesting.NewFakePassiveClock(time.Unix(0, 0)), func(string, bool) {})
	r.Eventf(Node("node"), nil, "Normal", "A", "Test", "%s", strings.Repeat("ü", 900))
	note := h.notes["A"][0]
	require.True(t, utf8.ValidString(note))
	require.LessOrEqual(t, len(note), 1024)
	require.True(t, strings.HasSuffix(note, "…"))
}

func TestEveryTurnIsSaidOnceAndWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, turn := range Turns {
		require.False(t, seen[turn.Reason], turn.Reason)
		seen[turn.Reason] = true
		require.Contains(t, []string{"Normal", "Warning"}, turn.Type, turn.Reason)
		require.NotEmpty(t, turn.About, turn.Reason)
		require.NotEmpty(t, turn.When, turn.Reason)
		require.NotEmpty(t, turn.Note, turn.Reason)
		require.NotContains(t, turn.When+turn.Note, "|", "it stands in a table")
	}
	for _, phase := range []v1alpha1.Phase{
		v1alpha1.PhaseFencing, v1alpha1.PhaseProvisioning, v1alpha1.PhaseWaiting, v1alpha1.PhaseTerminating, v1alpha1.PhaseRebooting,
		v1alpha1.PhaseReleasing, v1alpha1.PhaseVerifying, v1alpha1.PhaseLettingGo, v1alpha1.PhaseSucceeded, v1alpha1.PhaseFailed,
		v1alpha1.PhaseCanceled, v1alpha1.PhaseYielded,
	} {
		_, ok := Lookup(PhaseReason(phase))
		require.True(t, ok, phase)
	}
	_, ok := Lookup("NoSuchReason")
	require.False(t, ok)
}
