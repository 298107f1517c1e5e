package repair

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// stop is one way in which a person stops the repair; until is empty, a time, or what cannot be read.
type stop func(w *world, until string)

func orTrue(until string) string {
	if until == "" {
		return "true"
	}
	return until
}

func annotating(object client.Object, key string, also ...string) stop {
	return func(w *world, until string) {
		o := object.DeepCopyObject().(client.Object)
		w.change(o, func() {
			annotations := o.GetAnnotations()
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[key] = orTrue(until)
			for _, other := range also {
				annotations[other] = "true"
			}
			o.SetAnnotations(annotations)
		})
	}
}

var stops = map[string]stop{
	"all repairs": func(w *world, until string) {
		pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "stop"}, Spec: v1alpha1.RepairPauseSpec{Until: until}}
		require.NoError(w.t, w.api.Create(context.Background(), pause))
	},
	"the policy": func(w *world, until string) {
		policy := anyPolicy()
		w.change(policy, func() { policy.Spec.Mode, policy.Spec.PausedUntil = v1alpha1.ModePaused, until })
	},
	"the NodePool":                    annotating(sickPool(), v1alpha1.PauseAnnotation),
	"the node":                        annotating(sickNode(), v1alpha1.VetoAnnotation),
	"the node, for Karpenter as well": annotating(sickNode(), v1alpha1.VetoAnnotation, karpv1.DoNotRepairAnnotationKey),
	"the NodeClaim":                   annotating(sickClaim(), v1alpha1.VetoAnnotation),
}

// Whatever has not deleted the node is let go at the first look after the stop.
func TestAStopLetsGoWhatIsNotYetTerminated(t *testing.T) {
	for name, stopping := range stops {
		for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseProvisioning, v1alpha1.PhaseWaiting} {
			t.Run(name+" while "+string(phase), func(t *testing.T) {
				w := newWorld(t)
				w.idle = phase == v1alpha1.PhaseProvisioning
				e := w.executor(w.api)
				w.reaches(e, phase)
				stopping(w, "")
				require.NoError(t, w.step(e))
				repair := w.repair()
				require.Equal(t, v1alpha1.PhaseCanceled, repair.Status.Phase, repair.Status.Message)
				n := &corev1.Node{}
				require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "sick"}, n))
				require.Empty(t, n.Spec.Taints)
				require.NotContains(t, n.Annotations, v1alpha1.FenceOwnerAnnotation)
				w.karpenter()
				require.Len(t, w.claims(), 1, "the replacement is withdrawn")
			})
		}
	}
}

func TestAStopBeforeTheFenceFencesNothing(t *testing.T) {
	for name, stopping := range stops {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			stopping(w, "")
			require.Equal(t, v1alpha1.PhaseCanceled, w.runs(w.executor(w.api)).Status.Phase)
			require.Len(t, w.claims(), 1)
			w.noFenceIsLeft()
		})
	}
}

func TestAStopThatHasEndedStopsNothing(t *testing.T) {
	for name, stopping := range stops {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			stopping(w, now.Format(time.RFC3339))
			require.Equal(t, v1alpha1.PhaseSucceeded, w.runs(w.executor(w.api)).Status.Phase)
		})
	}
}

func TestAStopWhoseEndCannotBeReadHasNoneAndSaysWhatToWrite(t *testing.T) {
	for name, stopping := range stops {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			stopping(w, "tomorrow")
			w.clock.Step(1000 * time.Hour)
			repair := w.runs(w.executor(w.api))
			require.Equal(t, v1alpha1.PhaseCanceled, repair.Status.Phase)
			require.Contains(t, repair.Status.Message, `"tomorrow"`)
			require.Contains(t, repair.Status.Message, "2030-01-31T18:00:00Z")
		})
	}
}

func TestWhatIsTerminatingIsToldThatItCannotBeStopped(t *testing.T) {
	for name, stopping := range stops {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			e := w.executor(w.api)
			for w.repair().Status.Phase != v1alpha1.PhaseTerminating {
				w.karpenter()
				w.clock.Step(time.Second)
				_, err := e.Step(context.Background(), w.repair())
				require.NoError(t, err)
			}
			stopping(w, "")
			_, err := e.Step(context.Background(), w.repair()) // which the watch of the stop brings about
			require.NoError(t, err)
			require.Equal(t, v1alpha1.PhaseTerminating, w.repair().Status.Phase)
			require.Contains(t, w.repair().Status.Message, "cannot be stopped any more: the NodeClaim is deleted and its node is terminating")
			require.Equal(t, v1alpha1.PhaseSucceeded, w.runs(e).Status.Phase)
		})
	}
}
