package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestKubelet(t *testing.T) {
	for name, test := range map[string]struct {
		ready     *corev1.NodeCondition
		leases    Leases
		want      []string
		wantState v1alpha1.SourceState
		wantAgain time.Duration
	}{
		"a Ready node is healthy": {
			ready: new(condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", time.Hour)), wantState: v1alpha1.SourceActive,
		},
		"a node that is not Ready is found": {
			ready: new(condition(corev1.NodeReady, corev1.ConditionFalse, "KubeletNotReady", time.Minute)),
			want:  []string{"NodeNotReady"}, wantState: v1alpha1.SourceActive,
		},
		"a node whose kubelet is silent is found": {
			ready: new(condition(corev1.NodeReady, corev1.ConditionUnknown, "NodeStatusUnknown", time.Minute)), leases: Leases{Total: 10, Expired: 1},
			want: []string{"NodeStatusUnknown"}, wantState: v1alpha1.SourceActive, wantAgain: leasesAgain,
		},
		"exactly half of the leases expired condemns the silent node": {
			ready: new(condition(corev1.NodeReady, corev1.ConditionUnknown, "NodeStatusUnknown", time.Minute)), leases: Leases{Total: 4, Expired: 2},
			want: []string{"NodeStatusUnknown"}, wantState: v1alpha1.SourceActive, wantAgain: leasesAgain,
		},
		"when most leases expired at once nobody is sick": {
			ready: new(condition(corev1.NodeReady, corev1.ConditionUnknown, "NodeStatusUnknown", time.Minute)), leases: Leases{Total: 10, Expired: 6},
			want: []string{}, wantState: v1alpha1.SourceUnavailable, wantAgain: leasesAgain,
		},
		"two leases are too few to say so": {
			ready: new(condition(corev1.NodeReady, corev1.ConditionUnknown, "NodeStatusUnknown", time.Minute)), leases: Leases{Total: 2, Expired: 2},
			want: []string{"NodeStatusUnknown"}, wantState: v1alpha1.SourceActive, wantAgain: leasesAgain,
		},
		"what a kubelet says itself holds when most leases expired": {
			ready: new(condition(corev1.NodeReady, corev1.ConditionFalse, "KubeletNotReady", time.Minute)), leases: Leases{Total: 10, Expired: 10},
			want: []string{"NodeNotReady"}, wantState: v1alpha1.SourceActive,
		},
		"a Node without the condition is neither healthy nor sick": {want: []string{}, wantState: v1alpha1.SourceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			node := newNode()
			node.Status.Conditions = nil
			if test.ready != nil {
				node.Status.Conditions = []corev1.NodeCondition{*test.ready}
			}
			result := detect(t, Input{Node: node, Leases: test.leases})
			require.ElementsMatch(t, test.want, named(result))
			got := report(t, result, SourceKubelet)
			require.Equal(t, test.wantState, got.Source.State)
			require.Equal(t, test.wantState == v1alpha1.SourceActive, got.Source.Message == "")
			require.Equal(t, []v1alpha1.Category{v1alpha1.CategoryKubelet}, got.Source.Categories)
			if test.wantAgain == 0 {
				require.Zero(t, result.Next)
			} else {
				require.Equal(t, now.Add(test.wantAgain), result.Next)
			}
			for _, finding := range got.Findings {
				require.Equal(t, v1alpha1.SeverityFatal, finding.Severity)
				require.Equal(t, ago(time.Minute), finding.Since)
			}
		})
	}
}

func TestSilenceKeepsItsStartWhenTheKubeletsMessageChanges(t *testing.T) {
	first := detect(t, Input{Node: newNode(condition(corev1.NodeReady, corev1.ConditionFalse, "A", time.Hour))})
	second := detect(t, Input{Now: now.Add(time.Hour), Node: newNode(condition(corev1.NodeReady, corev1.ConditionFalse, "B", time.Minute)), Previous: standing(first)})
	require.Equal(t, ago(time.Hour), report(t, second, SourceKubelet).Findings[0].Since)
	require.Contains(t, report(t, second, SourceKubelet).Findings[0].Message, "B")
}

func TestCountLeases(t *testing.T) {
	lease := func(age time.Duration, seconds int32) coordinationv1.Lease {
		return coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: new(metav1.NewMicroTime(now.Add(-age))), LeaseDurationSeconds: &seconds}}
	}
	require.Equal(t, Leases{Total: 3, Expired: 1}, CountLeases([]coordinationv1.Lease{
		lease(time.Second, 40), lease(40*time.Second, 40), lease(41*time.Second, 40), {},
	}, now))
}
