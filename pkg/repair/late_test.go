package repair

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// checked deletes as a real API server does: in the version that the precondition names, and no other. do comes before
// the first delete of the sick NodeClaim reaches it.
func checked(api client.WithWatch, do func()) client.WithWatch {
	return interceptor.NewClient(api, interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			options := client.DeleteOptions{}
			options.ApplyOptions(opts)
			if o.GetName() != "sick" || options.Preconditions == nil {
				return c.Delete(ctx, o, opts...)
			}
			do()
			do = func() {}
			there := &karpv1.NodeClaim{}
			if err := c.Get(ctx, client.ObjectKeyFromObject(o), there); err != nil {
				return err
			}
			if only := options.Preconditions.ResourceVersion; only == nil || *only != there.ResourceVersion {
				return apierrors.NewConflict(schema.GroupResource{Resource: "nodeclaims"}, o.GetName(), errors.New("the version is another"))
			}
			return c.Delete(ctx, o, opts...)
		},
	})
}

// The process is frozen between its last look at the node and the delete. What another replica has written of the
// NodeClaim meanwhile makes the delete fail, and the node is looked at once more.
func TestADeleteThatComesLateFindsTheNodeClaimAsItWas(t *testing.T) {
	written := func(w *world) {
		claim := sickClaim()
		w.change(claim, func() { claim.Annotations = map[string]string{"example.com/by": "another replica"} })
	}
	for name, test := range map[string]struct {
		meanwhile func(*world)
		want      v1alpha1.Phase
	}{
		"nothing has happened":                            {meanwhile: func(*world) {}, want: v1alpha1.PhaseSucceeded},
		"the node is sick, and something else is written": {meanwhile: written, want: v1alpha1.PhaseSucceeded},
		"the node has recovered, which is written": {meanwhile: func(w *world) {
			w.recovers()
			written(w)
		}, want: v1alpha1.PhaseCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			e := w.executor(checked(w.api, func() { test.meanwhile(w) }))
			for range 200 {
				if w.repair().Finished() {
					break
				}
				if err := w.step(e); err != nil {
					require.True(t, apierrors.IsConflict(err), err)
				}
			}
			require.Equal(t, test.want, w.repair().Status.Phase, w.repair().Status.Message)
			w.isReplacedOrStands(test.want == v1alpha1.PhaseCanceled)
			w.noFenceIsLeft()
		})
	}
}
