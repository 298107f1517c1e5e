package snapshot

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

const noTime = `is neither "true" nor a time, so it has no end: write for example "2030-01-31T18:00:00Z"`

func setBy(manager, field string) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{
		{Manager: "karpenter", Time: &metav1.Time{Time: now}, FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:other":{}}}}`)},
		{Manager: manager, Time: &metav1.Time{Time: now}, FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:` + field + `":{}}}}`)},
	}
}

func TestAVetoSaysWhoSetItUntilWhenAndHowToLiftIt(t *testing.T) {
	both := "annotation karpenter.sh/do-not-repair and autorepair.sh/do-not-repair on Node node"
	liftBoth := "kubectl annotate node node karpenter.sh/do-not-repair- autorepair.sh/do-not-repair-"
	ours := "annotation autorepair.sh/do-not-repair on Node node"
	for name, test := range map[string]struct {
		annotations map[string]string
		want        *decision.Stop
	}{
		"Karpenter's annotation has no end": {
			annotations: map[string]string{karpv1.DoNotRepairAnnotationKey: "true"},
			want:        &decision.Stop{What: "annotation karpenter.sh/do-not-repair on Node node", LiftedBy: "kubectl annotate node node karpenter.sh/do-not-repair-"},
		},
		"ours beside it gives it one": {
			annotations: map[string]string{karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.VetoAnnotation: "2026-01-02T04:04:05+01:00"},
			want:        &decision.Stop{What: both, Until: now, LiftedBy: liftBoth},
		},
		"ours alone will do": {
			annotations: map[string]string{v1alpha1.VetoAnnotation: "true"},
			want:        &decision.Stop{What: ours, LiftedBy: "kubectl annotate node node autorepair.sh/do-not-repair-"},
		},
		"an end that cannot be read is none": {
			annotations: map[string]string{v1alpha1.VetoAnnotation: "in 2 hours"},
			want:        &decision.Stop{What: ours, Problem: `its value "in 2 hours" ` + noTime, LiftedBy: "kubectl annotate node node autorepair.sh/do-not-repair-"},
		},
		"nor is a day that does not exist": {
			annotations: map[string]string{v1alpha1.VetoAnnotation: "2026-02-31T00:00:00Z"},
			want:        &decision.Stop{What: ours, Problem: `its value "2026-02-31T00:00:00Z" ` + noTime, LiftedBy: "kubectl annotate node node autorepair.sh/do-not-repair-"},
		},
		"nor is an empty one": {
			annotations: map[string]string{v1alpha1.VetoAnnotation: ""},
			want:        &decision.Stop{What: ours, Problem: `its value "" ` + noTime, LiftedBy: "kubectl annotate node node autorepair.sh/do-not-repair-"},
		},
		"what Karpenter would not heed is heeded by us, and told": {
			annotations: map[string]string{karpv1.DoNotRepairAnnotationKey: "yes"},
			want: &decision.Stop{
				What:     "annotation karpenter.sh/do-not-repair on Node node",
				Problem:  `karpenter.sh/do-not-repair is "yes", which Karpenter does not know: write "true", and an end into autorepair.sh/do-not-repair`,
				LiftedBy: "kubectl annotate node node karpenter.sh/do-not-repair-",
			},
		},
		"false is no veto": {annotations: map[string]string{karpv1.DoNotRepairAnnotationKey: "false", v1alpha1.VetoAnnotation: "false"}},
		"over our guard ours counts": {
			annotations: map[string]string{karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.GuardedAnnotation: "true", v1alpha1.VetoAnnotation: "true"},
			want:        &decision.Stop{What: ours, LiftedBy: "kubectl annotate node node autorepair.sh/do-not-repair-"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := node()
			n.Annotations = test.annotations
			got, ok := NodeVeto(n)
			require.Equal(t, test.want != nil, ok)
			if test.want != nil {
				got.Until = got.Until.UTC()
				require.Equal(t, *test.want, got)
			}
		})
	}
	n := node()
	n.Annotations = map[string]string{v1alpha1.VetoAnnotation: "true"}
	n.ManagedFields = setBy("kubectl-annotate", v1alpha1.VetoAnnotation)
	got, _ := NodeVeto(n)
	require.Equal(t, "kubectl-annotate at 2026-01-02T03:04:05Z", got.By)
}

func TestAPauseOfTheNodePool(t *testing.T) {
	for text, want := range map[string]decision.Stop{
		"true":                 {},
		"2026-01-02T03:04:05Z": {Until: now},
		"soon":                 {Problem: `its value "soon" ` + noTime},
		"":                     {Problem: `its value "" ` + noTime},
	} {
		pool := nodePool()
		pool.Annotations = map[string]string{v1alpha1.PauseAnnotation: text}
		pool.ManagedFields = setBy("kubectl-annotate", v1alpha1.PauseAnnotation)
		want.What, want.LiftedBy = "annotation autorepair.sh/pause on NodePool pool", "kubectl annotate nodepool pool autorepair.sh/pause-"
		want.By = "kubectl-annotate at 2026-01-02T03:04:05Z"
		require.Equal(t, []decision.Stop{want}, poolPauses(pool), "%q", text)
	}
	pool := nodePool()
	require.Empty(t, poolPauses(pool))
	pool.Annotations = map[string]string{v1alpha1.PauseAnnotation: "false"}
	require.Empty(t, poolPauses(pool))
}

func TestRepairPausesAreGathered(t *testing.T) {
	pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "upgrade"}, Spec: v1alpha1.RepairPauseSpec{Until: "2026-01-02T03:04:05Z", Reason: "ask Ann"}}
	broken := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "broken"}, Spec: v1alpha1.RepairPauseSpec{Until: "2026-02-31T00:00:00Z"}}
	in := gather(t, nodeClaim(), node(), nodePool(), policy(), health(), pause, broken)
	require.Equal(t, []decision.Stop{
		{
			What: `RepairPause "broken"`, LiftedBy: "kubectl delete repairpause broken",
			Problem: `spec.until "2026-02-31T00:00:00Z" is no time, so it has no end: write for example "2030-01-31T18:00:00Z"`,
		},
		{What: `RepairPause "upgrade"`, Why: "ask Ann", Until: now, LiftedBy: "kubectl delete repairpause upgrade"},
	}, in.Pauses)
}

func TestStopsAreReadOnTheirOwn(t *testing.T) {
	pool := nodePool()
	pool.Annotations = map[string]string{v1alpha1.PauseAnnotation: "true"}
	vetoed := node()
	vetoed.Annotations = map[string]string{v1alpha1.VetoAnnotation: "true"}
	paused := policy()
	paused.Spec.Mode = v1alpha1.ModePaused
	pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "stop"}}
	for name, test := range map[string]struct {
		objects []client.Object
		want    []decision.BlockerReason
	}{
		"nobody said anything": {objects: []client.Object{nodeClaim(), node(), nodePool(), policy()}},
		"everybody did": {
			objects: []client.Object{nodeClaim(), vetoed, pool, paused, pause},
			want:    []decision.BlockerReason{decision.BlockerAllPaused, decision.BlockerNodePoolPaused, decision.BlockerVeto, decision.BlockerPaused},
		},
		"what is gone has only the pause of all": {objects: []client.Object{pause}, want: []decision.BlockerReason{decision.BlockerAllPaused}},
	} {
		t.Run(name, func(t *testing.T) {
			reader := newClient(test.objects...)
			stops, err := newGatherer(reader).Stops(context.Background(), reader, "claim", "node", "policy")
			require.NoError(t, err)
			var got []decision.BlockerReason
			for _, stop := range stops {
				got = append(got, stop.Reason)
			}
			require.Equal(t, test.want, got)
		})
	}
}

// Whatever stands there: it is either a time that it ends by, or a stop without end that says what is wrong with it.
func FuzzValueOfAStop(f *testing.F) {
	for _, seed := range []string{"true", "", "false", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789+14:00", "0001-01-01T00:00:00Z", "tomorrow", "1767323045", "\x00\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		until, problem := untilOf(text)
		switch {
		case text == "true":
			require.True(t, until.IsZero() && problem == "")
		case until.IsZero():
			require.NotEmpty(t, problem)
			require.Less(t, len(problem), 1000)
		default:
			require.Empty(t, problem)
			at, err := time.Parse(time.RFC3339, text)
			require.NoError(t, err)
			require.True(t, at.Equal(until))
		}
	})
}
