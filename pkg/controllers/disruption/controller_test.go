package disruption

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// host is the controller on a fake API. cache is what its cache shows, which may lag behind the API.
type host struct {
	*Controller
	api   client.WithWatch
	board *disruption.Board
}

func newHost(cache, api client.WithWatch) host {
	clk := clocktesting.NewFakeClock(now)
	board := disruption.NewBoard(nil)
	gatherer := snapshot.NewGatherer(clk, cache, func() decision.Karpenter { return decision.Karpenter{} }, true)
	method := disruption.NewMethod(gatherer, disruption.NewInKindPlanner(), board, func(ctx context.Context) ([]v1alpha1.NodeRepair, error) { return snapshot.ListRepairs(ctx, api) })
	// Reads come from the cache, writes go to the API.
	kubeClient := interceptor.NewClient(cache, interceptor.Funcs{
		Create: func(ctx context.Context, _ client.WithWatch, object client.Object, opts ...client.CreateOption) error {
			return api.Create(ctx, object, opts...)
		},
	})
	return host{Controller: NewController(clk, kubeClient, api, method, board, gatherer.Stops, func(time.Duration) {}), api: api, board: board}
}

func (h host) pass(t *testing.T) []v1alpha1.NodeRepair {
	t.Helper()
	_, err := h.Reconcile(context.Background(), reconcile.Request{})
	require.NoError(t, err)
	repairs, err := snapshot.ListRepairs(context.Background(), h.api)
	require.NoError(t, err)
	slices.SortFunc(repairs, func(a, b v1alpha1.NodeRepair) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return repairs
}

func TestASickNodeGetsOneNodeRepairHoweverOftenThePassIsMade(t *testing.T) {
	api := newClient(cluster("1", "a")...)
	host := newHost(api, api)
	repairs := host.pass(t)
	require.Len(t, repairs, 1)
	require.Equal(t, v1alpha1.NodeRepairSpec{
		NodeClaim: v1alpha1.NodeClaimReference{Name: "a", UID: "a"}, NodeName: "node-a", NodePool: "pool", Action: v1alpha1.ActionReplace,
		Cause: v1alpha1.RepairCause{
			Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Source: "test", Message: "stuck", Since: repairs[0].Spec.Cause.Since,
		},
		Policy:       v1alpha1.PolicyReference{Name: "policy", Rule: "all"},
		DrainBound:   &metav1.Duration{Duration: time.Minute},
		Replacement:  v1alpha1.ReplacementSpec{Attempts: new(int32(7))},
		Replacements: 1,
	}, repairs[0].Spec)
	require.Equal(t, "a-1", repairs[0].Name)
	require.Equal(t, map[string]string{v1alpha1.NodeClaimLabel: "a", v1alpha1.NodePoolLabel: "pool"}, repairs[0].Labels)
	require.Len(t, host.pass(t), 1)
	require.Len(t, host.pass(t), 1)
}

func TestACacheThatLagsDoesNotSpendTheBudgetTwice(t *testing.T) {
	objects := cluster("1", "a", "b")
	cache, api := newClient(objects...), newClient(objects...)
	host := newHost(cache, api) // the cache never sees the NodeRepair of the first pass
	require.Len(t, host.pass(t), 1)
	require.Len(t, host.pass(t), 1)
}

func TestOnePassCommitsAllThatTheBudgetAdmits(t *testing.T) {
	api := newClient(cluster("3", "a", "b", "c", "d")...)
	repairs := newHost(api, api).pass(t)
	require.Len(t, repairs, 3)
}

func TestEverySickNodeIsDecidedAbout(t *testing.T) {
	for name, test := range map[string]struct {
		change      func(objects []client.Object)
		wantRepairs int
		wantBlocked decision.BlockerReason
	}{
		"a node whose condition is not written yet is on the board and waits": {
			change: func(objects []client.Object) { find[*karpv1.NodeClaim](objects).Status.Conditions = nil },
		},
		"a node that the policy's owner has paused waits": {
			change:      func(objects []client.Object) { find[*v1alpha1.RepairPolicy](objects).Spec.Mode = v1alpha1.ModePaused },
			wantBlocked: decision.BlockerPaused,
		},
		"a node under a veto waits": {
			change: func(objects []client.Object) {
				find[*corev1.Node](objects).Annotations = map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}
			},
			wantBlocked: decision.BlockerVeto,
		},
		"a NodeClaim without a NodePool waits": {
			change: func(objects []client.Object) {
				delete(find[*karpv1.NodeClaim](objects).Labels, karpv1.NodePoolLabelKey)
			},
			wantBlocked: decision.BlockerStandalone,
		},
		"a NodePool that does not exist is named": {
			change: func(objects []client.Object) {
				find[*karpv1.NodeClaim](objects).Labels[karpv1.NodePoolLabelKey] = "other"
			},
			wantBlocked: decision.BlockerNodePoolMissing,
		},
		"nothing in the way": {change: func([]client.Object) {}, wantRepairs: 1},
	} {
		t.Run(name, func(t *testing.T) {
			objects := cluster("100%", "a")
			test.change(objects)
			api := newClient(objects...)
			host := newHost(api, api)
			require.Len(t, host.pass(t), test.wantRepairs)
			d, ok := host.board.Get("a")
			require.True(t, ok)
			if test.wantBlocked != "" {
				require.Contains(t, reasons(d), test.wantBlocked)
			}
		})
	}
}

// A pass has been decided when somebody stops it; the cache, from which it was decided, may not know.
func TestAStopCountsUpToTheVeryWrite(t *testing.T) {
	pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "stop"}}
	over := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "over"}, Spec: v1alpha1.RepairPauseSpec{Until: now.Format(time.RFC3339)}}
	t.Run("a pause of all that the cache has not seen is seen past it", func(t *testing.T) {
		cache, api := newClient(cluster("3", "a", "b")...), newClient(append(cluster("3", "a", "b"), pause.DeepCopy())...)
		require.Empty(t, newHost(cache, api).pass(t))
	})
	t.Run("one that has ended is none", func(t *testing.T) {
		cache, api := newClient(cluster("3", "a", "b")...), newClient(append(cluster("3", "a", "b"), over.DeepCopy())...)
		require.Len(t, newHost(cache, api).pass(t), 2)
	})
	for name, stop := range map[string]func(context.Context, client.Client) error{
		"a pause of all": func(ctx context.Context, api client.Client) error { return api.Create(ctx, pause.DeepCopy()) },
		"a pause of the NodePool": func(ctx context.Context, api client.Client) error {
			return annotate(ctx, api, &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}, v1alpha1.PauseAnnotation)
		},
		"a veto": func(ctx context.Context, api client.Client) error {
			return annotate(ctx, api, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, karpv1.DoNotRepairAnnotationKey)
		},
		"a policy that is paused": func(ctx context.Context, api client.Client) error {
			policy := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}}
			return api.Patch(ctx, policy, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"mode":"Paused"}}`)))
		},
	} {
		t.Run(name+" between the decision and the write", func(t *testing.T) {
			api := newClient(cluster("3", "a")...)
			once := sync.OnceValue(func() error { return stop(context.Background(), api) })
			// The NodeRepairs are read anew after the decision, right before the writes.
			reader := interceptor.NewClient(api, interceptor.Funcs{
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					if _, ok := list.(*v1alpha1.NodeRepairList); ok {
						if err := once(); err != nil {
							return err
						}
					}
					return c.List(ctx, list, opts...)
				},
			})
			host := newHost(api, api)
			host.apiReader = reader
			require.Empty(t, host.pass(t))
		})
	}
}

func annotate(ctx context.Context, api client.Client, object client.Object, key string) error {
	return api.Patch(ctx, object, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"true"}}}`, key)))
}

func TestACandidateWithoutANodeIsLeftAlone(t *testing.T) {
	objects := slices.DeleteFunc(cluster("100%", "a"), func(object client.Object) bool { return object.GetName() == "node-a" })
	api := newClient(objects...)
	require.Empty(t, newHost(api, api).pass(t))
}

func TestTheNextPass(t *testing.T) {
	t.Run("comes by itself while a node is sick", func(t *testing.T) {
		api := newClient(cluster("0", "a")...)
		result, err := newHost(api, api).Reconcile(context.Background(), reconcile.Request{})
		require.NoError(t, err)
		require.Equal(t, lookAgain, result.RequeueAfter)
	})
	t.Run("waits for a change while none is", func(t *testing.T) {
		api := newClient(cluster("0")...)
		result, err := newHost(api, api).Reconcile(context.Background(), reconcile.Request{})
		require.NoError(t, err)
		require.Zero(t, result)
	})
}

func TestNextName(t *testing.T) {
	named := func(names ...string) []v1alpha1.NodeRepair {
		var out []v1alpha1.NodeRepair
		for _, name := range names {
			out = append(out, v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		return out
	}
	for name, test := range map[string]struct {
		repairs []v1alpha1.NodeRepair
		want    string
	}{
		"the first": {want: "claim-1"},
		"the next":  {repairs: named("claim-1", "claim-2"), want: "claim-3"},
		"history that has been cut is not reused": {repairs: named("claim-12", "claim-9"), want: "claim-13"},
		"those of others do not count":            {repairs: named("claim-x-7", "other-3", "claim-7x"), want: "claim-1"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, nextName(test.repairs, "claim")) })
	}
}

func reasons(d decision.Decision) []decision.BlockerReason {
	var out []decision.BlockerReason
	for _, blocker := range d.Blockers {
		out = append(out, blocker.Reason)
	}
	return out
}

func find[T client.Object](objects []client.Object) T {
	for _, object := range objects {
		if found, ok := object.(T); ok {
			return found
		}
	}
	panic("no such object")
}

// cluster is a NodePool with sick nodes, each with a pod, among healthy ones.
func cluster(budget string, sick ...string) []client.Object {
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool", UID: "pool"}}
	pool.Status.Conditions = []status.Condition{{Type: status.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready"}}
	pool.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: budget}}
	pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "example.com", Kind: "NodeClass", Name: "default"}
	policy := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}}
	policy.Spec.Mode = v1alpha1.ModeEnforce
	policy.Spec.Replacement.Attempts = new(int32(7))
	policy.Spec.Rules = []v1alpha1.RepairRule{{
		Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: time.Minute},
		Action: v1alpha1.ActionReplace, DrainBound: &metav1.Duration{Duration: time.Minute},
	}}
	var objects []client.Object
	for _, name := range sick {
		objects = append(objects, machine(name, true)...)
		objects = append(objects, &v1alpha1.NodeHealth{
			ObjectMeta: metav1.ObjectMeta{Name: "node-" + name},
			Sources:    []v1alpha1.Source{{Name: "test", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}}},
			Findings: []v1alpha1.Finding{{
				Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal, Message: "stuck",
				Since: metav1.NewTime(now.Add(-time.Hour)),
			}},
		}, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec:       corev1.PodSpec{NodeName: "node-" + name},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		})
	}
	for i := range 5 * len(sick) {
		objects = append(objects, machine("healthy-"+string(rune('a'+i)), false)...)
	}
	return append(objects, pool, policy)
}

func machine(name string, sick bool) []client.Object {
	nodeClaim := &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{karpv1.NodePoolLabelKey: "pool"}},
		Status:     karpv1.NodeClaimStatus{ProviderID: "provider://" + name, NodeName: "node-" + name},
	}
	if sick {
		nodeClaim.Status.Conditions = []status.Condition{{Type: v1alpha1.ConditionUnhealthy, Status: metav1.ConditionTrue}}
	}
	return []client.Object{nodeClaim, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-" + name, Labels: map[string]string{
			karpv1.NodePoolLabelKey: "pool", karpv1.NodeInitializedLabelKey: "true", karpv1.NodeRegisteredLabelKey: "true",
		}},
		Spec: corev1.NodeSpec{ProviderID: "provider://" + name},
	}}
}

func newClient(objects ...client.Object) client.WithWatch {
	copies := make([]client.Object, 0, len(objects))
	for _, object := range objects {
		copies = append(copies, object.DeepCopyObject().(client.Object))
	}
	return fakeapi.Builder().WithObjects(copies...).Build()
}
