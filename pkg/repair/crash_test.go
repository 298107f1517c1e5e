package repair

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

var errCrash = errors.New("the process ends here")

// crashes gives a client that counts writes, and ends the process at the k-th of them: before it reaches the API
// server, or after it but before its answer comes.
func crashes(api client.WithWatch, k int, answerLost bool, count *int) client.Client {
	at := func(write func() error) error {
		*count++
		if *count != k {
			return write()
		}
		if answerLost {
			if err := write(); err != nil {
				return err
			}
		}
		return errCrash
	}
	return interceptor.NewClient(api, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return at(func() error { return c.Create(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return at(func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return at(func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return at(func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	})
}

// course is what happens to a repair, and how it must end whenever the process crashes.
type course struct {
	prepare func(*world)
	// during is done once, when the repair has made a replacement.
	during func(*world)
	check  func(*world, *v1alpha1.NodeRepair)
}

var courses = map[string]course{
	"a node is replaced": {
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
			claims := w.claims()
			require.Len(w.t, claims, 1, "exactly one replacement, and the sick one gone")
			require.Equal(w.t, "sick-1", claims[0].Labels[v1alpha1.NodeRepairLabel])
			require.Len(w.t, repair.Status.Replacements, 1)
			require.NotNil(w.t, repair.Status.Evidence)
		},
	},
	"an empty node is replaced by nothing": {
		prepare: func(w *world) {
			repair := w.repair()
			w.change(repair, func() { repair.Spec.Replacements = 0 })
			require.NoError(w.t, w.api.Delete(context.Background(), movingPod("pod", "sick")))
		},
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
			require.Empty(w.t, w.claims())
		},
	},
	"a node recovers midway and is let go": {
		prepare: func(w *world) { w.idle = true },
		during:  (*world).recovers,
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseCanceled, repair.Status.Phase, repair.Status.Message)
			claims := w.claims()
			require.Len(w.t, claims, 1)
			require.Equal(w.t, "sick", claims[0].Name, "a node that recovered is never deleted")
		},
	},
	"replacements that do not launch are withdrawn": {
		prepare: func(w *world) { w.idle = true },
		check: func(w *world, repair *v1alpha1.NodeRepair) {
			require.Equal(w.t, v1alpha1.PhaseFailed, repair.Status.Phase, repair.Status.Message)
			require.Len(w.t, repair.Status.Replacements, 3)
			claims := w.claims()
			require.Len(w.t, claims, 1)
			require.Equal(w.t, "sick", claims[0].Name)
		},
	},
}

// run takes the course to its end; a crash is followed by a new executor that writes without fail.
func (c course) run(w *world, writes client.Client) *v1alpha1.NodeRepair {
	if c.prepare != nil {
		c.prepare(w)
	}
	executor, during := w.executor(writes), c.during
	for range 300 {
		if repair := w.repair(); repair.Finished() {
			return repair
		}
		if during != nil && len(w.claims()) == 2 {
			during(w)
			during = nil
		}
		err := w.step(executor)
		if errors.Is(err, errCrash) {
			executor = w.executor(w.api)
			continue
		}
		require.NoError(w.t, err)
	}
	require.FailNow(w.t, "the repair does not end", w.String())
	return nil
}

func TestACrashAtAnyWriteChangesNothingInTheEnd(t *testing.T) {
	for name, course := range courses {
		t.Run(name, func(t *testing.T) {
			writes, w := 0, newWorld(t)
			course.check(w, course.run(w, crashes(w.api, -1, false, &writes)))
			w.noFenceIsLeft()
			require.Greater(t, writes, 4, "too few writes were seen for this test to mean anything")
			for k := 1; k <= writes; k++ {
				for _, answerLost := range []bool{false, true} {
					t.Run(fmt.Sprintf("write %d, answer lost: %t", k, answerLost), func(t *testing.T) {
						count, w := 0, newWorld(t)
						course.check(w, course.run(w, crashes(w.api, k, answerLost, &count)))
						require.GreaterOrEqual(t, count, k, "the crash came")
						w.noFenceIsLeft()
					})
				}
			}
		})
	}
}

func TestWhatStoodBeforeTheFenceComesBack(t *testing.T) {
	w := newWorld(t)
	n := sickNode()
	w.change(n, func() { n.Annotations[karpv1.DoNotDisruptAnnotationKey] = "a person's" })
	w.idle = true
	e := w.executor(w.api)
	w.reaches(e, v1alpha1.PhaseProvisioning)
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKeyFromObject(n), n))
	require.Equal(t, "true", n.Annotations[karpv1.DoNotDisruptAnnotationKey])
	require.Contains(t, n.Spec.Taints, v1alpha1.UnhealthyTaint)
	w.recovers()
	w.runs(e)
	n = &corev1.Node{}
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "sick"}, n))
	require.Equal(t, map[string]string{"example.com/own": "kept", karpv1.DoNotDisruptAnnotationKey: "a person's"}, n.Annotations)
	require.Empty(t, n.Spec.Taints)
}

func TestWhatAPersonWritesOverTheFenceStays(t *testing.T) {
	tests := map[string]struct {
		write func(map[string]string)
		want  map[string]string
	}{
		"another value": {
			write: func(a map[string]string) { a[karpv1.DoNotDisruptAnnotationKey] = "false" },
			want:  map[string]string{"example.com/own": "kept", karpv1.DoNotDisruptAnnotationKey: "false"},
		},
		"taken away": {
			write: func(a map[string]string) { delete(a, karpv1.DoNotDisruptAnnotationKey) },
			want:  map[string]string{"example.com/own": "kept"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := sickNode()
			w.change(n, func() { n.Annotations[karpv1.DoNotDisruptAnnotationKey] = "before" })
			w.idle = true
			e := w.executor(w.api)
			w.reaches(e, v1alpha1.PhaseProvisioning)
			w.change(n, func() { tt.write(n.Annotations) })
			w.recovers()
			w.runs(e)
			n = &corev1.Node{}
			require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "sick"}, n))
			require.Equal(t, tt.want, n.Annotations)
			require.Empty(t, n.Spec.Taints)
		})
	}
}

func TestAFenceThatIsTakenOverKeepsWhatAPersonWroteMeanwhile(t *testing.T) {
	w := newWorld(t)
	e := w.executor(w.api)
	n := sickNode()
	fence := func(owner types.UID) {
		require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "sick"}, n))
		require.NoError(t, e.putFence(context.Background(), n, owner, false))
	}
	fence("first")
	w.change(n, func() { n.Annotations[karpv1.DoNotDisruptAnnotationKey] = "false" })
	fence("second")
	require.Equal(t, "true", n.Annotations[karpv1.DoNotDisruptAnnotationKey])
	fence("third")
	require.NoError(t, e.Unfence(context.Background(), "sick", "third"))
	require.NoError(t, w.api.Get(context.Background(), client.ObjectKey{Name: "sick"}, n))
	require.Equal(t, map[string]string{"example.com/own": "kept", karpv1.DoNotDisruptAnnotationKey: "false"}, n.Annotations)
}
