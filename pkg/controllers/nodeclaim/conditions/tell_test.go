package conditions

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// turns gives type and reason of what was told since the last look; each is told on the NodeClaim and on the Node.
func (w *world) turns() []string {
	w.t.Helper()
	told := w.told()
	var out []string
	for i, line := range told {
		if i%2 == 0 {
			out = append(out, strings.Join(strings.Fields(line)[:2], " "))
			continue
		}
		require.Equal(w.t, told[i-1], line, "the Node hears the same")
	}
	return out
}

func TestTheTurnsAreToldAsEventsOnceEach(t *testing.T) {
	sick, healthy, blind := nodeHealth(v1alpha1.SeverityFatal), nodeHealth(""), nodeHealth("")
	blind.Sources[0].State = v1alpha1.SourceUnavailable
	h := nodeHealth("")
	w := newWorld(t, claim(), h, policy())
	for _, step := range []struct {
		name string
		is   *v1alpha1.NodeHealth
		want []string
	}{
		{"a node that was never anything but healthy is no news", healthy, nil},
		{"a fault past its toleration", sick, []string{"Warning KernelNotReady", "Warning Unhealthy"}},
		{"the same fault is told once", sick, nil},
		{"it has gone", healthy, []string{"Normal KernelReady", "Normal Recovered"}},
		{"nobody can tell: one event for all conditions", blind, []string{"Warning NotObserved"}},
		{"one can again", healthy, []string{"Normal KernelReady", "Normal StorageReady"}},
	} {
		require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "node"}, h))
		h.Sources, h.Findings = step.is.Sources, step.is.Findings
		require.NoError(t, w.api.Update(context.Background(), h))
		w.clock.Step(time.Minute)
		w.look()
		require.Equal(t, step.want, w.turns(), step.name)
	}
}

func TestAFaultThatIsToleratedIsToldWithItsBlocker(t *testing.T) {
	w := newWorld(t, claim(), nodeHealth(v1alpha1.SeverityFatal), policy())
	w.look()
	require.Equal(t, []string{"Warning KernelNotReady", "Normal RepairBlocked"}, w.turns())
}

func TestHowLongAFaultTookToBeWritten(t *testing.T) {
	sick := nodeHealth(v1alpha1.SeverityFatal)
	blind := nodeHealth("")
	blind.Sources[0].State = v1alpha1.SourceUnavailable
	for name, test := range map[string]struct {
		before *v1alpha1.NodeHealth
		want   map[v1alpha1.Category]time.Duration
	}{
		"of a node that was healthy":                     {nodeHealth(""), map[v1alpha1.Category]time.Duration{v1alpha1.CategoryKernel: 10 * time.Second}},
		"of one that nobody could see, nobody can tell":  {blind, map[v1alpha1.Category]time.Duration{}},
		"of one that was sick before, it is not new":     {sick, map[v1alpha1.Category]time.Duration{}},
		"of one that nobody had looked at, nor can that": {nil, map[v1alpha1.Category]time.Duration{}},
	} {
		t.Run(name, func(t *testing.T) {
			h := sick.DeepCopy()
			w := newWorld(t, claim(), h, policy())
			if test.before != nil {
				h.Sources, h.Findings = test.before.Sources, test.before.Findings
				require.NoError(t, w.api.Update(context.Background(), h))
				w.look()
			}
			took := map[v1alpha1.Category]time.Duration{}
			w.ObserveDetection(func(category v1alpha1.Category, after time.Duration) { took[category] = after })
			h.Sources, h.Findings = sick.Sources, sick.Findings
			h.Findings[0].Since = metav1.NewTime(now.Add(-10 * time.Second))
			require.NoError(t, w.api.Update(context.Background(), h))
			w.look()
			w.look()
			require.Equal(t, test.want, took)
		})
	}
}

func TestAFaultIsCountedOnceHoweverFarTheCacheIsBehind(t *testing.T) {
	counted := 0
	c := (&Controller{}).ObserveDetection(func(v1alpha1.Category, time.Duration) { counted++ })
	condition := func(status metav1.ConditionStatus) []metav1.Condition {
		return []metav1.Condition{{Type: "autorepair.sh/KernelReady", Status: status, Reason: "KernelDeadlock"}}
	}
	look := func(since time.Time) {
		verdict := diagnosis.Verdict{Judgements: []diagnosis.Judgement{{Finding: v1alpha1.Finding{
			Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Since: metav1.NewTime(since),
		}}}}
		c.detected("claim", condition(metav1.ConditionTrue), condition(metav1.ConditionFalse), verdict, now)
	}
	look(now)
	look(now)
	require.Equal(t, 1, counted, "the cache did not show the first write yet")
	look(now.Add(time.Minute))
	require.Equal(t, 2, counted, "another fault, after the first has gone")
	c.detections.forget("claim")
	require.Empty(t, c.detections.since, "what is gone is not kept")
}
