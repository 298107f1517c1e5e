package cluster

import (
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestNodeLifecycle(t *testing.T) {
	registered := func(age time.Duration) status.Condition {
		return claimIs(karpv1.ConditionTypeRegistered, metav1.ConditionTrue, age)
	}
	notInitialized := claimIs(karpv1.ConditionTypeInitialized, metav1.ConditionUnknown, time.Hour)
	label := map[string]string{karpv1.NodeRegisteredLabelKey: "true"}
	for name, test := range map[string]struct {
		labels   map[string]string
		claim    *karpv1.NodeClaim
		want     []string
		wantNext time.Duration
	}{
		"not Initialized 15 minutes after it registered": {labels: label, claim: newClaim(registered(15*time.Minute), notInitialized), want: []string{"NeverInitialized"}},
		"not Initialized a second earlier":               {labels: label, claim: newClaim(registered(15*time.Minute-time.Second), notInitialized), wantNext: time.Second},
		"Initialized":                                    {claim: newClaim(registered(time.Hour), claimIs(karpv1.ConditionTypeInitialized, metav1.ConditionTrue, time.Minute))},
		"never registered is another fault":              {claim: newClaim(claimIs(karpv1.ConditionTypeRegistered, metav1.ConditionUnknown, time.Hour), notInitialized)},
		"without a NodeClaim the Node's labels tell":     {labels: label, want: []string{"NeverInitialized"}},
		"without either nothing is known":                {},
		"Initialized by label while the claim is unread": {labels: map[string]string{karpv1.NodeRegisteredLabelKey: "true", karpv1.NodeInitializedLabelKey: "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			node := newNode()
			node.Labels = test.labels
			result := detect(t, Input{Node: node, NodeClaim: test.claim})
			require.ElementsMatch(t, test.want, named(result))
			if test.wantNext == 0 {
				require.Zero(t, result.Next)
			} else {
				require.Equal(t, now.Add(test.wantNext), result.Next)
			}
			for _, finding := range report(t, result, SourceNodeLifecycle).Findings {
				require.Equal(t, v1alpha1.SeverityFatal, finding.Severity)
				require.Equal(t, v1alpha1.CategoryKubelet, finding.Category)
			}
		})
	}
}
