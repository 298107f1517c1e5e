package status

import (
	"context"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
)

func policy(name string, change ...func(*v1alpha1.RepairPolicySpec)) *v1alpha1.RepairPolicy {
	p := &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Rules = []v1alpha1.RepairRule{{
		Name: "kernel", Match: v1alpha1.FindingMatch{Reasons: []string{"KernelDeadlock"}}, Tolerate: metav1.Duration{Duration: time.Minute},
	}}
	for _, f := range change {
		f(&p.Spec)
	}
	return p
}

func selecting(value string) func(*v1alpha1.RepairPolicySpec) {
	return func(s *v1alpha1.RepairPolicySpec) {
		s.NodeClaimSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": value}}
	}
}

func claim(name, team string, unhealthy bool) *karpv1.NodeClaim {
	c := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": team}}}
	if unhealthy {
		c.Status.Conditions = []status.Condition{{Type: v1alpha1.ConditionUnhealthy, Status: metav1.ConditionTrue}}
	}
	return c
}

// described gives the policies as they are after one look.
func described(t *testing.T, objects ...client.Object) map[string]v1alpha1.RepairPolicyStatus {
	t.Helper()
	api := fakeapi.Builder().WithObjects(objects...).WithStatusSubresource(&v1alpha1.RepairPolicy{}).Build()
	known := func(reason string) bool { return reason == "KernelDeadlock" }
	controller := NewController(clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), api, known, []string{"KernelDeadlock", "ForkFailedOutOfPIDs"})
	_, err := controller.Reconcile(context.Background(), reconcile.Request{})
	require.NoError(t, err)
	list := &v1alpha1.RepairPolicyList{}
	require.NoError(t, api.List(context.Background(), list))
	out := map[string]v1alpha1.RepairPolicyStatus{}
	for _, p := range list.Items {
		out[p.Name] = p.Status
	}
	return out
}

func TestAPolicySaysWhatItGoverns(t *testing.T) {
	got := described(t, policy("a", selecting("a"), func(s *v1alpha1.RepairPolicySpec) { s.Weight = 10 }), policy("rest"),
		claim("one", "a", true), claim("two", "a", false), claim("three", "b", true))
	require.Equal(t, int32(2), got["a"].NodeClaims)
	require.Equal(t, int32(1), got["a"].Unhealthy)
	require.Equal(t, int32(1), got["rest"].NodeClaims, "the weightier policy governs the others")
	require.Equal(t, int32(1), got["rest"].Unhealthy)
}

func pausedUntil(text string) func(*v1alpha1.RepairPolicySpec) {
	return func(s *v1alpha1.RepairPolicySpec) { s.Mode, s.PausedUntil = v1alpha1.ModePaused, text }
}

func TestAPolicyThatIsNotPausedSaysNothingOfIt(t *testing.T) {
	require.Nil(t, meta.FindStatusCondition(described(t, policy("p"))["p"].Conditions, v1alpha1.PolicyConditionPaused))
}

func TestWhatIsWrongWithAPolicyIsSaidWithWhatToWriteInstead(t *testing.T) {
	for name, test := range map[string]struct {
		objects   []client.Object
		condition string
		holds     bool
		reason    string
		says      string
	}{
		"nothing is wrong": {
			objects: []client.Object{policy("p"), claim("one", "a", false)}, condition: v1alpha1.PolicyConditionReady, holds: true, reason: "Ready",
		},
		"a toleration of zero": {
			objects:   []client.Object{policy("p", func(s *v1alpha1.RepairPolicySpec) { s.Rules[0].Tolerate.Duration = 0 })},
			condition: v1alpha1.PolicyConditionReady, reason: "Invalid", says: `write a duration of at least "1s"`,
		},
		"a pattern that does not compile": {
			objects:   []client.Object{policy("p", func(s *v1alpha1.RepairPolicySpec) { s.Rules[0].Match.ReasonPattern = "(" })},
			condition: v1alpha1.PolicyConditionReady, reason: "Invalid", says: "RE2",
		},
		"two of equal weight for one NodeClaim": {
			objects:   []client.Object{policy("p"), policy("q"), claim("one", "a", false)},
			condition: v1alpha1.PolicyConditionReady, reason: "Conflict", says: "RepairPolicy q of the same weight (0) selects NodeClaim one too",
		},
		"a reason that nobody knows": {
			objects:   []client.Object{policy("p", func(s *v1alpha1.RepairPolicySpec) { s.Rules[0].Match.Reasons = []string{"KernelDeadlok"} })},
			condition: v1alpha1.PolicyConditionReasonsKnown, reason: "UnknownReason", says: `did you mean "KernelDeadlock"?`,
		},
		"reasons that are known": {
			objects: []client.Object{policy("p")}, condition: v1alpha1.PolicyConditionReasonsKnown, holds: true, reason: "Known",
		},
		"a selector that selects nothing": {
			objects:   []client.Object{policy("p", selecting("nobody")), claim("one", "a", false)},
			condition: v1alpha1.PolicyConditionSelects, reason: "NoNodeClaims", says: "--show-labels",
		},
		"a selector that selects": {
			objects: []client.Object{policy("p", selecting("a")), claim("one", "a", false)}, condition: v1alpha1.PolicyConditionSelects, holds: true, reason: "Selected",
		},
		"a pause without an end": {
			objects:   []client.Object{policy("p", pausedUntil(""))},
			condition: v1alpha1.PolicyConditionPaused, holds: true, reason: "NoEnd", says: "until its mode is changed",
		},
		"a pause with an end": {
			objects:   []client.Object{policy("p", pausedUntil("2026-01-02T03:04:06Z"))},
			condition: v1alpha1.PolicyConditionPaused, holds: true, reason: "Until", says: "until 2026-01-02T03:04:06Z",
		},
		"a pause that has ended": {
			objects:   []client.Object{policy("p", pausedUntil("2026-01-02T03:04:05Z"))},
			condition: v1alpha1.PolicyConditionPaused, reason: "Ended", says: "to pause it again write a later pausedUntil",
		},
		"a pause whose end cannot be read": {
			objects:   []client.Object{policy("p", pausedUntil("2026-02-31T00:00:00Z"))},
			condition: v1alpha1.PolicyConditionPaused, holds: true, reason: "NoEnd", says: "write for example",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := meta.FindStatusCondition(described(t, test.objects...)["p"].Conditions, test.condition)
			require.NotNil(t, got)
			require.Equal(t, test.holds, got.Status == metav1.ConditionTrue, got.Message)
			require.Equal(t, test.reason, got.Reason)
			require.Contains(t, got.Message, test.says)
		})
	}
}
