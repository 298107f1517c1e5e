package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// ended makes a repair that ended some time ago, with steps so long after its start.
func ended(name, node, pool string, outcome v1alpha1.Phase, age, took time.Duration, turns map[string]time.Duration) *v1alpha1.NodeRepair {
	return nodeRepair(name, node, pool, func(r *v1alpha1.NodeRepair) {
		r.CreationTimestamp = ago(age + took)
		r.Status.Phase, r.Status.FinishedAt = outcome, new(ago(age))
		r.Status.Message = "ended as " + string(outcome)
		for condition, after := range turns {
			r.Status.Conditions = append(r.Status.Conditions, metav1.Condition{
				Type: condition, Status: metav1.ConditionTrue, Reason: condition, LastTransitionTime: ago(age + took - after),
			})
		}
	})
}

func past() []client.Object {
	whole := map[string]time.Duration{
		v1alpha1.RepairConditionFenced: time.Second, v1alpha1.RepairConditionProvisioned: 40 * time.Second, v1alpha1.RepairConditionTerminated: 100 * time.Second,
		v1alpha1.RepairConditionReleased: 101 * time.Second, v1alpha1.RepairConditionVerified: 401 * time.Second,
	}
	told := ended("default-a-1", "a", "default", v1alpha1.PhaseSucceeded, 2*time.Hour, 402*time.Second, whole)
	told.Status.Replacements = []v1alpha1.ReplacementStatus{
		{NodeClaim: "default-r0", Attempt: 1, WithdrawnAt: new(ago(3 * time.Hour)), Message: "not launched within 1m30s"},
		{NodeClaim: "default-r1", Attempt: 2, NodeName: "r1", InitializedAt: new(ago(2 * time.Hour))},
	}
	told.Status.Evidence = &v1alpha1.RepairEvidence{
		Findings:       []v1alpha1.Finding{finding("InterfaceNotUp", "eth1", 3*time.Hour)},
		NodeConditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "PLEG is not healthy"}},
		NodeInfo:       &corev1.NodeSystemInfo{OSImage: "Bottlerocket", KernelVersion: "6.12.1", KubeletVersion: "v1.36.0", ContainerRuntimeVersion: "containerd://2.1.0", BootID: "b1"},
		Pods:           []string{"shop/cart-1", "shop/cart-2"}, ReschedulablePods: 2,
		Events: []string{"2026-11-25T09:00:00Z Warning NodeNotReady: Node a status is now: NodeNotReady"},
	}
	return []client.Object{
		told,
		ended("default-b-1", "b", "default", v1alpha1.PhaseFailed, 26*time.Hour, 20*time.Minute, map[string]time.Duration{v1alpha1.RepairConditionFenced: time.Second}),
		ended("default-c-1", "c", "default", v1alpha1.PhaseCanceled, time.Hour, time.Minute, map[string]time.Duration{v1alpha1.RepairConditionFenced: time.Second}),
		ended("gpu-d-1", "d", "gpu", v1alpha1.PhaseYielded, 3*time.Hour, 10*time.Second, nil),
		ended("gpu-e-1", "e", "gpu", v1alpha1.PhaseSucceeded, 30*time.Minute, 8*time.Minute, map[string]time.Duration{
			v1alpha1.RepairConditionFenced: 2 * time.Second, v1alpha1.RepairConditionRebooted: 3 * time.Minute, v1alpha1.RepairConditionReleased: 3 * time.Minute, v1alpha1.RepairConditionVerified: 8 * time.Minute,
		}),
		nodeRepair("default-f-1", "f", "default", nil),
	}
}

func TestHistoryPrints(t *testing.T) {
	for name, test := range map[string]struct {
		objects []client.Object
		args    []string
	}{
		"all":      {objects: past()},
		"one-pool": {objects: past(), args: []string{"--nodepool", "default", "--since", "24h"}},
		"one-node": {objects: past(), args: []string{"node/a"}},
		"nothing":  {objects: []client.Object{nodeRepair("default-f-1", "f", "default", nil)}, args: []string{"--since", "2026-11-25T00:00:00Z"}},
	} {
		for _, format := range Formats {
			t.Run(name+" as "+format, func(t *testing.T) {
				got, err := newWorld(test.objects...).run(t, append([]string{"history", "-o", format}, test.args...)...)
				require.NoError(t, err)
				requireGolden(t, "history/"+name+"."+format, got)
			})
		}
	}
}

func TestHistoryOfAnUnknownNodeSuggests(t *testing.T) {
	_, err := newWorld(past()...).run(t, "history", "default-a-2")
	require.EqualError(t, err, `no repair is kept of it: there is no Node, NodeClaim or NodeRepair "default-a-2": did you mean default-a-1 or default-a or default-b-1?`)
}

func TestSinceIsReadOrSaysWhatToWrite(t *testing.T) {
	for text, want := range map[string]time.Time{
		"":                     {},
		"24h":                  now.Add(-24 * time.Hour),
		"7d":                   now.Add(-7 * 24 * time.Hour),
		"2026-11-25T09:00:00Z": time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC),
	} {
		t.Run(text, func(t *testing.T) {
			got, err := parseSince(now, text)
			require.NoError(t, err)
			require.True(t, want.Equal(got), "%s", got)
		})
	}
	for _, text := range []string{"yesterday", "-1h", "0s", "99999d", "d", "70000d", "2026-11-25"} {
		t.Run(text, func(t *testing.T) {
			_, err := parseSince(now, text)
			require.ErrorContains(t, err, "write a duration as 24h or 7d, or a time as 2030-01-31T18:00:00Z")
		})
	}
}

func FuzzLength(f *testing.F) {
	for _, seed := range []string{"1h", "7d", "0d", "-3m", "1h2m3s", "d", "99999999999d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		length, err := parseLength(text)
		if err == nil && (length <= 0 || length > maxLength) {
			t.Fatalf("%q is read as %s", text, length)
		}
	})
}
