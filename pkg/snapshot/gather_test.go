package snapshot

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestGatherStatesWhatTheObjectsSay(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*karpv1.NodeClaim, *corev1.Node)
		want   func(*decision.Node)
		boot   string // that the agent speaks of
	}{
		"a node like any other": {
			change: func(*karpv1.NodeClaim, *corev1.Node) {},
			want:   func(*decision.Node) {},
		},
		"a NodeClaim that is being deleted is deleting": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				nodeClaim.DeletionTimestamp, nodeClaim.Finalizers = &metav1.Time{Time: now}, []string{"karpenter.sh/termination"}
			},
			want: func(n *decision.Node) { n.Deleting = true },
		},
		"a Node that is being deleted is deleting": {
			change: func(_ *karpv1.NodeClaim, node *corev1.Node) {
				node.DeletionTimestamp, node.Finalizers = &metav1.Time{Time: now}, []string{"karpenter.sh/termination"}
			},
			want: func(n *decision.Node) { n.Deleting = true },
		},
		"an instance that terminates is deleting and terminated": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				setTrue(nodeClaim, karpv1.ConditionTypeInstanceTerminating)
			},
			want: func(n *decision.Node) { n.Deleting, n.Terminated = true, true },
		},
		"Karpenter's taint says that Karpenter disrupts the node": {
			change: func(_ *karpv1.NodeClaim, node *corev1.Node) {
				node.Spec.Taints = []corev1.Taint{karpv1.DisruptedNoScheduleTaint}
			},
			want: func(n *decision.Node) { n.KarpenterDisrupting = true },
		},
		"Karpenter's condition says so too": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				setTrue(nodeClaim, karpv1.ConditionTypeDisruptionReason)
			},
			want: func(n *decision.Node) { n.KarpenterDisrupting = true },
		},
		"our own fence does not": {
			change: func(_ *karpv1.NodeClaim, node *corev1.Node) {
				node.Spec.Taints = []corev1.Taint{v1alpha1.UnhealthyTaint}
				node.Annotations = map[string]string{v1alpha1.FenceOwnerAnnotation: "1", karpv1.DoNotDisruptAnnotationKey: "true"}
			},
			want: func(*decision.Node) {},
		},
		"a rebooting node is rebooting and nothing else": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				setTrue(nodeClaim, karpv1.ConditionTypeRebooting)
				setTrue(nodeClaim, karpv1.ConditionTypeDisruptionReason)
			},
			want: func(n *decision.Node) { n.Rebooting = true },
		},
		"the provider of a node class may be known to reboot": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				nodeClaim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "any"}
			},
			want: func(n *decision.Node) { n.ProviderReboots = true },
		},
		"one that is not known does not": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				nodeClaim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "example.com", Kind: "Class", Name: "any"}
			},
			want: func(*decision.Node) {},
		},
		"reboots that were asked for inside Karpenter stand on the NodeClaim": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				nodeClaim.Annotations = map[string]string{v1alpha1.RebootsAnnotation: "2026-01-01T00:00:00Z,2026-01-02T00:00:00Z"}
			},
			want: func(n *decision.Node) {
				n.Reboots = []time.Time{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
			},
		},
		"what is no list of reboots closes a gate": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				nodeClaim.Annotations = map[string]string{v1alpha1.RebootsAnnotation: "twice"}
			},
			want: func(n *decision.Node) {
				n.Unreadable = []string{"annotation autorepair.sh/reboots of the NodeClaim is no list of times: remove it"}
			},
		},
		"what was found before a reboot may stand for a while": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) { rebooted(nodeClaim) },
			want:   func(n *decision.Node) { n.SettlesUntil = now.Add(2 * time.Minute) },
		},
		"for longer where its agent has not seen the new boot": {
			change: func(nodeClaim *karpv1.NodeClaim, node *corev1.Node) {
				rebooted(nodeClaim)
				node.Status.NodeInfo.BootID = "boot-2"
			},
			want: func(n *decision.Node) { n.SettlesUntil = now.Add(10 * time.Minute) },
			boot: "boot-1",
		},
		"a node that has not joined has no Node": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				nodeClaim.Status.ProviderID, nodeClaim.Status.NodeName = "", ""
			},
			want: func(n *decision.Node) { n.NodeName, n.Initialized, n.Zone, n.Capacity = "", false, "", nil },
		},
		"a Node that has vanished closes a gate": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				nodeClaim.Status.ProviderID, nodeClaim.Status.NodeName = "gone", "gone"
			},
			want: func(n *decision.Node) {
				n.NodeName, n.Initialized, n.Zone, n.Capacity = "", false, "", nil
				n.Unreadable = []string{"Node gone of the NodeClaim does not exist"}
			},
		},
		"a termination grace period is kept": {
			change: func(nodeClaim *karpv1.NodeClaim, _ *corev1.Node) {
				nodeClaim.Spec.TerminationGracePeriod = &metav1.Duration{Duration: time.Hour}
			},
			want: func(n *decision.Node) { n.TerminationGracePeriod = new(time.Hour) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			nodeClaim, node := nodeClaim(), node()
			test.change(nodeClaim, node)
			spoken := health()
			spoken.BootID = test.boot
			in := gather(t, nodeClaim, node, spoken)
			want := decision.Node{
				NodeClaim: "claim", NodeClaimUID: "claim", NodeName: "node", NodePool: "pool", Zone: "z", Image: "image", Initialized: true,
				Capacity: node.Status.Capacity,
			}
			test.want(&want)
			want.Verdict = in.Nodes[0].Verdict
			require.Empty(t, cmp.Diff([]decision.Node{want}, in.Nodes))
		})
	}
}

func TestAnOperatorMayKnowMoreProvidersThatReboot(t *testing.T) {
	claim := nodeClaim()
	claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "example.com", Kind: "Class", Name: "any"}
	kubeClient := newClient(claim, node())
	discovery := NewDiscovery(kubeClient, Overrides{RebootProviders: []string{"example.com"}})
	gatherer := newGatherer(kubeClient).RebootedBy(discovery.RebootProviders())
	in, err := gatherer.Gather(context.Background())
	require.NoError(t, err)
	require.True(t, in.Nodes[0].ProviderReboots)
	in.Nodes[0].ProviderReboots = false
	require.NoError(t, gatherer.Refresh(context.Background(), kubeClient, &in, "claim"))
	require.True(t, in.Nodes[0].ProviderReboots, "and the last look says the same")
	require.Equal(t, RebootProviders, NewDiscovery(kubeClient, Overrides{}).RebootProviders(), "without a word from the operator")
}

func TestVetoes(t *testing.T) {
	veto := map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}
	with := func(more map[string]string) map[string]string {
		out := map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}
		for key, value := range more {
			out[key] = value
		}
		return out
	}
	for name, test := range map[string]struct {
		node, nodeClaim, nodePool map[string]string
		want                      []string
	}{
		"nobody has a say": {},
		"a person's annotation on the Node is a veto": {
			node: veto, want: []string{"annotation karpenter.sh/do-not-repair on Node node"},
		},
		"another value is none": {node: map[string]string{karpv1.DoNotRepairAnnotationKey: "false"}},
		"on the NodeClaim and the NodePool it is one too": {
			nodeClaim: veto, nodePool: veto,
			want: []string{"annotation karpenter.sh/do-not-repair on NodeClaim claim", "annotation karpenter.sh/do-not-repair on NodePool pool"},
		},
		"what our fence has set is none": {
			node: with(map[string]string{v1alpha1.FenceOwnerAnnotation: "1", v1alpha1.FenceRestoreAnnotation: `{"karpenter.sh/do-not-repair":null}`}),
		},
		"what stood there before our fence is one": {
			node: with(map[string]string{v1alpha1.FenceOwnerAnnotation: "1", v1alpha1.FenceRestoreAnnotation: `{"karpenter.sh/do-not-repair":"true"}`}),
			want: []string{"annotation karpenter.sh/do-not-repair on Node node"},
		},
		"what our fence has not set is one": {
			node: with(map[string]string{v1alpha1.FenceOwnerAnnotation: "1", v1alpha1.FenceRestoreAnnotation: `{"karpenter.sh/do-not-disrupt":null}`}),
			want: []string{"annotation karpenter.sh/do-not-repair on Node node"},
		},
		"in doubt it is one": {
			node: with(map[string]string{v1alpha1.FenceOwnerAnnotation: "1", v1alpha1.FenceRestoreAnnotation: `?`}),
			want: []string{"annotation karpenter.sh/do-not-repair on Node node"},
		},
		"what our guard has set is none": {node: with(map[string]string{v1alpha1.GuardedAnnotation: "true"})},
		"a fence over our guard is none": {
			node: with(map[string]string{v1alpha1.GuardedAnnotation: "true", v1alpha1.FenceOwnerAnnotation: "1", v1alpha1.FenceRestoreAnnotation: `{"karpenter.sh/do-not-repair":"true"}`}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			nodeClaim, node, nodePool := nodeClaim(), node(), nodePool()
			nodeClaim.Annotations, node.Annotations, nodePool.Annotations = test.nodeClaim, test.node, test.nodePool
			var got []string
			for _, veto := range vetoes(nodeClaim, node, nodePool) {
				got = append(got, veto.What)
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestGatherLooksAtThePodsOfSickNodes(t *testing.T) {
	for name, test := range map[string]struct {
		healthy bool
		objects []client.Object
		want    []string
	}{
		"a pod that may be evicted blocks nothing":                         {objects: []client.Object{pod("a", nil)}},
		"the pods of a healthy node are not asked":                         {healthy: true, objects: []client.Object{pod("a", doNotDisrupt)}},
		"a pod with do-not-disrupt blocks, by name":                        {objects: []client.Object{pod("a", doNotDisrupt)}, want: []string{"Pod ns/a has the annotation karpenter.sh/do-not-disrupt"}},
		"a pod under a PodDisruptionBudget that allows one does not block": {objects: []client.Object{pod("a", nil), budget("b", 1)}},
		"a pod under a used-up PodDisruptionBudget blocks, by both names": {
			objects: []client.Object{pod("a", nil), budget("b", 0)},
			want:    []string{"Pod ns/a is held by PodDisruptionBudget ns/b, which allows no disruption now"},
		},
		"a pod that is not Ready is evicted while enough others are": {
			objects: []client.Object{pod("a", unready), budget("b", 0)},
		},
		"a pod that is not Ready blocks where too few others are": {
			objects: []client.Object{pod("a", unready), func() client.Object {
				b := budget("b", 0)
				b.Status.CurrentHealthy = 0
				return b
			}()},
			want: []string{"Pod ns/a is held by PodDisruptionBudget ns/b, which allows no disruption now"},
		},
		"a pod under two PodDisruptionBudgets cannot be evicted": {
			objects: []client.Object{pod("a", nil), budget("b", 1), budget("c", 1)},
			want:    []string{"Pod ns/a is selected by several PodDisruptionBudgets (ns/b, ns/c), so it cannot be evicted"},
		},
		"many pods are counted": {
			objects: []client.Object{
				pod("a", doNotDisrupt), pod("b", doNotDisrupt), pod("c", doNotDisrupt), pod("d", doNotDisrupt),
				pod("e", doNotDisrupt), pod("f", doNotDisrupt), pod("g", doNotDisrupt),
			},
			want: []string{
				"Pod ns/a has the annotation karpenter.sh/do-not-disrupt", "Pod ns/b has the annotation karpenter.sh/do-not-disrupt",
				"Pod ns/c has the annotation karpenter.sh/do-not-disrupt", "Pod ns/d has the annotation karpenter.sh/do-not-disrupt",
				"Pod ns/e has the annotation karpenter.sh/do-not-disrupt", "2 more pods may not be disrupted",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := append([]client.Object{nodeClaim(), node(), nodePool(), policy()}, test.objects...)
			if !test.healthy {
				objects = append(objects, health())
			}
			in := gather(t, objects...)
			require.Equal(t, test.want, in.Nodes[0].PodBlockers)
			require.Empty(t, in.Nodes[0].Unreadable)
			if test.healthy {
				require.Zero(t, in.Nodes[0].ReschedulablePods)
				return
			}
			require.Positive(t, in.Nodes[0].ReschedulablePods)
			require.Positive(t, in.Nodes[0].DisruptionCost)
		})
	}
}

func TestWhatCannotBeReadClosesAGate(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		fails     client.ObjectList
		wantError bool
	}{
		"pods":                 {fails: &corev1.PodList{}},
		"PodDisruptionBudgets": {fails: &policyv1.PodDisruptionBudgetList{}},
		"NodeClaims":           {fails: &karpv1.NodeClaimList{}, wantError: true},
		"Nodes":                {fails: &corev1.NodeList{}, wantError: true},
		"NodePools":            {fails: &karpv1.NodePoolList{}, wantError: true},
		"NodeHealths":          {fails: &v1alpha1.NodeHealthList{}, wantError: true},
		"RepairPolicies":       {fails: &v1alpha1.RepairPolicyList{}, wantError: true},
		"NodeRepairs":          {fails: &v1alpha1.NodeRepairList{}, wantError: true},
	} {
		t.Run(name, func(t *testing.T) {
			kubeClient := interceptor.NewClient(newClient(nodeClaim(), node(), nodePool(), policy(), health(), pod("a", nil)), interceptor.Funcs{
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					if sameType(list, test.fails) {
						return broken
					}
					return c.List(ctx, list, opts...)
				},
			})
			in, err := newGatherer(kubeClient).Gather(context.Background())
			if test.wantError {
				require.ErrorIs(t, err, broken)
				return
			}
			require.NoError(t, err)
			require.NotEmpty(t, in.Nodes[0].Unreadable)
		})
	}
}

func TestGatherCountsReplacementsThatHaveNotLaunched(t *testing.T) {
	ours, launched, foreign := nodeClaim(), nodeClaim(), nodeClaim()
	ours.Name, launched.Name, foreign.Name = "ours", "launched", "foreign"
	for _, c := range []*karpv1.NodeClaim{ours, launched} {
		c.Labels[v1alpha1.NodeRepairLabel] = "repair"
	}
	setTrue(launched, karpv1.ConditionTypeLaunched)
	require.Equal(t, 1, gather(t, ours, launched, foreign).Launching)
}

func TestRefreshReadsPastTheCache(t *testing.T) {
	stale := newClient(nodeClaim(), node(), nodePool(), policy(), health(), pod("a", nil))
	gatherer := newGatherer(stale)

	t.Run("a veto that the cache has not seen is found", func(t *testing.T) {
		vetoed := node()
		vetoed.Annotations = map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}
		in := refresh(t, gatherer, newClient(nodeClaim(), vetoed, nodePool(), policy(), health()))
		require.Len(t, in.Nodes[0].Vetoes, 1)
	})
	t.Run("a node that has recovered is healthy", func(t *testing.T) {
		in := refresh(t, gatherer, newClient(nodeClaim(), node(), nodePool(), policy()))
		require.Empty(t, in.Nodes[0].Verdict.Judgements)
	})
	t.Run("a node that is as it was stays sick", func(t *testing.T) {
		in := refresh(t, gatherer, newClient(nodeClaim(), node(), nodePool(), policy(), health()))
		require.True(t, in.Nodes[0].Verdict.Unhealthy)
	})
	t.Run("a policy that has been taken away governs no more", func(t *testing.T) {
		in := refresh(t, gatherer, newClient(nodeClaim(), node(), nodePool(), health()))
		require.Nil(t, in.Nodes[0].Verdict.Policy)
	})
	t.Run("a NodePool that is gone is gone", func(t *testing.T) {
		in := refresh(t, gatherer, newClient(nodeClaim(), node(), policy(), health()))
		require.Empty(t, in.NodePools)
	})
	t.Run("a NodeClaim that is gone leaves", func(t *testing.T) {
		in := refresh(t, gatherer, newClient(node(), nodePool(), policy(), health()))
		require.Empty(t, in.Nodes)
	})
	t.Run("a Node that is gone closes a gate", func(t *testing.T) {
		in := refresh(t, gatherer, newClient(nodeClaim(), nodePool(), policy(), health()))
		require.NotEmpty(t, in.Nodes[0].Unreadable)
	})
}

func refresh(t *testing.T, gatherer *Gatherer, reader client.Reader) decision.Input {
	t.Helper()
	in, err := gatherer.Gather(context.Background())
	require.NoError(t, err)
	require.True(t, in.Nodes[0].Verdict.Unhealthy)
	require.NoError(t, gatherer.Refresh(context.Background(), reader, &in, "claim"))
	return in
}

func gather(t *testing.T, objects ...client.Object) decision.Input {
	t.Helper()
	in, err := newGatherer(newClient(objects...)).Gather(context.Background())
	require.NoError(t, err)
	require.Equal(t, now, in.Now)
	return in
}

func newGatherer(kubeClient client.Client) *Gatherer {
	return NewGatherer(clocktesting.NewFakeClock(now), kubeClient, func() decision.Karpenter { return decision.Karpenter{} }, true)
}

func newClient(objects ...client.Object) client.WithWatch {
	return fakeapi.Builder().WithObjects(objects...).Build()
}

func sameType(a, b any) bool { return reflect.TypeOf(a) == reflect.TypeOf(b) }

func nodeClaim() *karpv1.NodeClaim {
	return &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "claim", UID: "claim", Labels: map[string]string{karpv1.NodePoolLabelKey: "pool"}},
		Status:     karpv1.NodeClaimStatus{ProviderID: "provider://node", NodeName: "node", ImageID: "image"},
	}
}

func node() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node", UID: "node", Labels: map[string]string{
			karpv1.NodeInitializedLabelKey: "true", corev1.LabelTopologyZone: "z",
		}},
		Spec:   corev1.NodeSpec{ProviderID: "provider://node"},
		Status: corev1.NodeStatus{Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}},
	}
}

func nodePool() *karpv1.NodePool {
	return &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
}

func policy() *v1alpha1.RepairPolicy {
	policy := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}}
	policy.Spec.Mode = v1alpha1.ModeEnforce
	policy.Spec.Rules = []v1alpha1.RepairRule{{
		Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: time.Minute}, Action: v1alpha1.ActionReplace,
	}}
	return policy
}

func health() *v1alpha1.NodeHealth {
	return &v1alpha1.NodeHealth{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Sources:    []v1alpha1.Source{{Name: "test", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}}},
		Findings: []v1alpha1.Finding{{
			Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal,
			Since: metav1.NewTime(now.Add(-time.Hour)),
		}},
	}
}

func pod(name string, change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "a"}},
		Spec:       corev1.PodSpec{NodeName: "node"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func doNotDisrupt(pod *corev1.Pod) {
	pod.Annotations = map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"}
}

func unready(pod *corev1.Pod) { pod.Status.Conditions[0].Status = corev1.ConditionFalse }

func budget(name string, allowed int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed, DesiredHealthy: 1, CurrentHealthy: 1 + allowed},
	}
}

func rebooted(nodeClaim *karpv1.NodeClaim) {
	nodeClaim.Status.Conditions = append(nodeClaim.Status.Conditions, status.Condition{
		Type: karpv1.ConditionTypeRebooting, Status: metav1.ConditionFalse, Reason: karpv1.RebootReasonSucceeded, LastTransitionTime: metav1.NewTime(now),
	})
}

func setTrue(nodeClaim *karpv1.NodeClaim, conditionType string) {
	nodeClaim.Status.Conditions = append(nodeClaim.Status.Conditions, status.Condition{Type: conditionType, Status: metav1.ConditionTrue})
}
