package cli

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// answering lets lists of some types fail.
func (w *world) answering(answer func(client.ObjectList) error) *world {
	w.client = interceptor.NewClient(w.client, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := answer(list); err != nil {
				return err
			}
			return c.List(ctx, list, opts...)
		},
	})
	return w
}

func TestEveryListHasOptionsOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	raw := map[any]bool{}
	w := newWorld(storm()...)
	w.client = interceptor.NewClient(w.client, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			options := (&client.ListOptions{}).ApplyOptions(opts)
			asked := options.AsListOptions() // as a real client does, which writes into them
			mu.Lock()
			raw[asked] = true
			mu.Unlock()
			if _, isLease := list.(*coordinationv1.LeaseList); !isLease {
				require.Empty(t, asked.FieldSelector, "%T", list)
				require.Equal(t, "0", asked.ResourceVersion, "%T", list)
			}
			return c.List(ctx, list, opts...)
		},
	})
	_, err := w.run(t, "status")
	require.NoError(t, err)
	require.Len(t, raw, 8)
}

func TestWhatCannotBeReadIsSaid(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "any"}, "", nil)
	missing := apierrors.NewNotFound(schema.GroupResource{}, "")
	is := func(want client.ObjectList, err error) func(client.ObjectList) error {
		return func(list client.ObjectList) error {
			if sameType(list, want) {
				return err
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		answer      func(client.ObjectList) error
		wantError   string
		wantWarning string
	}{
		"everything can be read":               {answer: func(client.ObjectList) error { return nil }},
		"no right to read Nodes":               {answer: is(&corev1.NodeList{}, forbidden), wantWarning: "Warning: you may not read nodes, so what depends on them is left out: ask for a ClusterRole with get, list and watch on them (any is forbidden: <nil>)\n"},
		"no right to read leases is no matter": {answer: is(&coordinationv1.LeaseList{}, forbidden)},
		"no Karpenter": {answer: is(&karpv1.NodePoolList{}, missing),
			wantError: "the API server https://cluster.test does not know nodepools.karpenter.sh: Karpenter (1.3 or later) is not installed in this cluster, or --context names another: install it, or see kubectl config get-contexts"},
		"none of our kinds": {answer: is(&v1alpha1.RepairPauseList{}, missing),
			wantError: "the API server https://cluster.test does not know repairpauses.autorepair.sh: karpenter-autorepair is not installed in this cluster, or --context names another: install its charts (autorepair-crd first), or see kubectl config get-contexts"},
		"not logged in": {answer: is(&corev1.NodeList{}, apierrors.NewUnauthorized("token expired")),
			wantError: "the API server https://cluster.test does not know who you are: log in again, or choose another --context (token expired)"},
		"an API server that fails": {answer: is(&corev1.NodeList{}, apierrors.NewInternalError(context.DeadlineExceeded)),
			wantError: "reading nodes from https://cluster.test, Internal error occurred: context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(storm()...).answering(test.answer)
			_, err := w.run(t, "status")
			if test.wantError != "" {
				require.EqualError(t, err, test.wantError)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.wantWarning, w.errOut.String())
		})
	}
}

func TestPodsOfManySickNodesAreListedAtOnce(t *testing.T) {
	f := &fleet{}
	f.add(nodePool("default", "1", nil), repairPolicy("default", nil))
	for i := range manySick + 1 {
		name := "n" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		f.machine("default", name, finding("InterfaceNotUp", "eth1", 20*60e9))
		f.add(pod("on-"+name, name))
	}
	f.machines("default", 2)
	f.add(pod("elsewhere", "default-well-0"))
	lists := 0
	w := newWorld(f.objects...).answering(func(list client.ObjectList) error {
		if sameType(list, &corev1.PodList{}) {
			lists++
		}
		return nil
	})
	cluster, err := w.Connect()
	require.NoError(t, err)
	got, err := w.Load(t.Context(), cluster, Wanted{Pods: true})
	require.NoError(t, err)
	require.Equal(t, 1, lists)
	require.Len(t, got.Pods, manySick+1)
}

func sameType(a, b any) bool { return fmt.Sprintf("%T", a) == fmt.Sprintf("%T", b) }
