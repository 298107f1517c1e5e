package history

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// ended gives a NodeRepair that ended so long ago; zero for one that is at work.
func ended(name string, ago time.Duration) client.Object {
	repair := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(now.Add(-1000 * time.Hour))}}
	repair.Status.Phase = v1alpha1.PhaseTerminating
	if ago > 0 {
		repair.Status.Phase, repair.Status.FinishedAt = v1alpha1.PhaseSucceeded, lo.ToPtr(metav1.NewTime(now.Add(-ago)))
	}
	return repair
}

// rebooted gives a NodeRepair that rebooted the NodeClaim so long ago.
func rebooted(name, claim string, ago time.Duration) client.Object {
	repair := ended(name, ago).(*v1alpha1.NodeRepair)
	repair.Spec.Action, repair.Spec.NodeClaim = v1alpha1.ActionReboot, v1alpha1.NodeClaimReference{Name: claim, UID: types.UID(claim)}
	return repair
}

func TestHistoryIsBoundedByCountAndAge(t *testing.T) {
	for name, test := range map[string]struct {
		keep    int
		age     time.Duration
		repairs []client.Object
		want    []string
	}{
		"what is at work stays, however old": {keep: 0, age: 0, repairs: []client.Object{ended("at-work", 0)}, want: []string{"at-work"}},
		"the oldest go first": {
			keep: 1, age: 100 * time.Hour,
			repairs: []client.Object{ended("older", 40*time.Hour), ended("old", 30*time.Hour)}, want: []string{"old"},
		},
		"too old goes, though there is room": {
			keep: 100, age: 48 * time.Hour,
			repairs: []client.Object{ended("older", 49*time.Hour), ended("old", 47*time.Hour)}, want: []string{"old"},
		},
		"reboots of a node that stands are counted for as long as a policy may say": {
			keep: 0, age: time.Hour,
			repairs: []client.Object{
				&karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "stands", UID: "stands"}},
				rebooted("counted", "stands", 719*time.Hour), rebooted("too-old", "stands", 721*time.Hour), rebooted("gone", "gone", 30*time.Hour),
			},
			want: []string{"counted"},
		},
		"decisions count the last 24 hours, so all of them stay": {
			keep: 0, age: time.Hour,
			repairs: lo.Times(5, func(i int) client.Object { return ended(fmt.Sprintf("recent-%d", i), 23*time.Hour) }),
			want:    []string{"recent-0", "recent-1", "recent-2", "recent-3", "recent-4"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			api := fakeapi.Builder().WithObjects(test.repairs...).Build()
			controller := NewController(clocktesting.NewFakeClock(now), api, test.keep, test.age)
			result, err := controller.Reconcile(context.Background(), reconcile.Request{})
			require.NoError(t, err)
			require.Positive(t, result.RequeueAfter, "age grows without any change")
			list := &v1alpha1.NodeRepairList{}
			require.NoError(t, api.List(context.Background(), list))
			left := lo.Map(list.Items, func(r v1alpha1.NodeRepair, _ int) string { return r.Name })
			slices.Sort(left)
			require.Equal(t, test.want, left)
		})
	}
}
