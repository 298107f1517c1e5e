package guard

import (
	"context"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestGuard(t *testing.T) {
	repairs := decision.Karpenter{OwnRepair: true, HonoursDoNotRepair: true}
	guard := map[string]string{karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.GuardedAnnotation: "true"}
	persons := map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}
	fenced := map[string]string{v1alpha1.FenceOwnerAnnotation: "1", karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.GuardedAnnotation: "true"}
	for name, test := range map[string]struct {
		karpenter decision.Karpenter
		severity  v1alpha1.Severity // empty for a healthy node
		mode      v1alpha1.Mode     // empty for no policy
		before    map[string]string
		want      map[string]string
	}{
		"a Fatal finding on a node that we repair guards it": {karpenter: repairs, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeEnforce, want: guard},
		"a Warning does not":                               {karpenter: repairs, severity: v1alpha1.SeverityWarning, mode: v1alpha1.ModeEnforce},
		"a healthy node is not guarded":                    {karpenter: repairs, mode: v1alpha1.ModeEnforce},
		"a paused policy keeps the node to us":             {karpenter: repairs, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModePaused, want: guard},
		"a node that we only watch is left to Karpenter":   {karpenter: repairs, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeDryRun},
		"a node without a policy is left to Karpenter":     {karpenter: repairs, severity: v1alpha1.SeverityFatal},
		"a Karpenter that does not repair needs no guard":  {karpenter: decision.Karpenter{HonoursDoNotRepair: true}, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeEnforce},
		"a Karpenter that heeds no guard gets none":        {karpenter: decision.Karpenter{OwnRepair: true}, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeEnforce},
		"a guard stays while the finding does":             {karpenter: repairs, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeEnforce, before: guard, want: guard},
		"a guard is lifted when the node is healthy again": {karpenter: repairs, mode: v1alpha1.ModeEnforce, before: guard},
		"a person's veto stays a person's on a sick node":  {karpenter: repairs, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeEnforce, before: persons, want: persons},
		"a person's veto stays on a healthy node":          {karpenter: repairs, mode: v1alpha1.ModeEnforce, before: persons, want: persons},
		"a veto whose end has come is taken away":          {mode: v1alpha1.ModeEnforce, before: vetoedUntil(-time.Second)},
		"a veto whose end has come becomes our guard on a sick node": {
			karpenter: repairs, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeEnforce, before: vetoedUntil(-time.Second), want: guard,
		},
		"a veto over our guard leaves the guard when it ends": {
			karpenter: repairs, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeEnforce, want: guard,
			before: lo.Assign(guard, map[string]string{v1alpha1.VetoAnnotation: now.Add(-time.Second).Format(time.RFC3339)}),
		},
		"a veto whose end has not come stays": {
			karpenter: repairs, severity: v1alpha1.SeverityFatal, mode: v1alpha1.ModeEnforce, before: vetoedUntil(time.Second), want: vetoedUntil(time.Second),
		},
		"a veto whose end cannot be read stays": {
			before: lo.Assign(persons, map[string]string{v1alpha1.VetoAnnotation: "tomorrow"}), want: lo.Assign(persons, map[string]string{v1alpha1.VetoAnnotation: "tomorrow"}),
		},
		"nothing is lifted beneath a fence": {karpenter: repairs, mode: v1alpha1.ModeEnforce, before: fenced, want: fenced},
	} {
		t.Run(name, func(t *testing.T) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Annotations: test.before}, Spec: corev1.NodeSpec{ProviderID: "p"}}
			objects := []client.Object{node, &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim"}, Status: karpv1.NodeClaimStatus{ProviderID: "p"}}}
			if test.severity != "" {
				objects = append(objects, health(test.severity))
			}
			if test.mode != "" {
				objects = append(objects, policy(test.mode))
			}
			kubeClient := newClient(objects...)
			controller := NewController(clocktesting.NewFakeClock(now), kubeClient, func() decision.Karpenter { return test.karpenter })
			request := reconcile.Request{NamespacedName: types.NamespacedName{Name: "node"}}
			for range 2 { // the second time changes nothing
				_, err := controller.Reconcile(context.Background(), request)
				require.NoError(t, err)
				got := &corev1.Node{}
				require.NoError(t, kubeClient.Get(context.Background(), request.NamespacedName, got))
				if len(test.want) == 0 {
					require.Empty(t, got.Annotations)
					continue
				}
				require.Equal(t, test.want, got.Annotations)
			}
		})
	}
}

// vetoedUntil are a person's annotations.
func vetoedUntil(from time.Duration) map[string]string {
	return map[string]string{karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.VetoAnnotation: now.Add(from).Format(time.RFC3339)}
}

func TestAVetoIsLookedAtWhenItEnds(t *testing.T) {
	kubeClient := newClient(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Annotations: vetoedUntil(7 * time.Second)}})
	clk := clocktesting.NewFakeClock(now)
	controller := NewController(clk, kubeClient, func() decision.Karpenter { return decision.Karpenter{} })
	request := reconcile.Request{NamespacedName: types.NamespacedName{Name: "node"}}
	result, err := controller.Reconcile(context.Background(), request)
	require.NoError(t, err)
	require.Equal(t, 7*time.Second, result.RequeueAfter)
	clk.Step(result.RequeueAfter)
	_, err = controller.Reconcile(context.Background(), request)
	require.NoError(t, err)
	node := &corev1.Node{}
	require.NoError(t, kubeClient.Get(context.Background(), request.NamespacedName, node))
	require.Empty(t, node.Annotations)
}

func health(severity v1alpha1.Severity) *v1alpha1.NodeHealth {
	return &v1alpha1.NodeHealth{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Sources:    []v1alpha1.Source{{Name: "test", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}}},
		Findings: []v1alpha1.Finding{{
			Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: severity, Since: metav1.NewTime(now),
		}},
	}
}

func policy(mode v1alpha1.Mode) *v1alpha1.RepairPolicy {
	policy := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}}
	policy.Spec.Mode = mode
	policy.Spec.Rules = []v1alpha1.RepairRule{{
		Name: "all", Match: v1alpha1.FindingMatch{ReasonPattern: ".*"}, Tolerate: metav1.Duration{Duration: time.Minute}, Action: v1alpha1.ActionReplace,
	}}
	return policy
}

func newClient(objects ...client.Object) client.Client {
	return fakeapi.Builder().WithObjects(objects...).Build()
}
