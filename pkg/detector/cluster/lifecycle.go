package cluster

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// ReasonNeverInitialized is the reason of the source node-lifecycle.
const ReasonNeverInitialized = "NeverInitialized"

// initializeWithin is the time a registered node has to become Initialized.
const initializeWithin = 15 * time.Minute

// nodeLifecycle finds a node that has registered and never becomes Initialized, for which Karpenter has no time limit.
func nodeLifecycle(in Input) (detector.Report, time.Time) {
	report := active(SourceNodeLifecycle, v1alpha1.CategoryKubelet)
	registered, ok := registeredAt(in)
	if !ok || initialized(in) {
		return report, time.Time{}
	}
	deadline := registered.Add(initializeWithin)
	if in.Now.Before(deadline) {
		return report, deadline
	}
	report.Findings = append(report.Findings, v1alpha1.Finding{
		Source:   SourceNodeLifecycle,
		Reason:   ReasonNeverInitialized,
		Category: v1alpha1.CategoryKubelet,
		Severity: v1alpha1.SeverityFatal,
		Since:    in.since(SourceNodeLifecycle, ReasonNeverInitialized, "", deadline),
		Message:  fmt.Sprintf("registered at %s and not Initialized within %s%s", registered.UTC().Format(time.RFC3339), initializeWithin, whyNotInitialized(in)),
	})
	return report, time.Time{}
}

func registeredAt(in Input) (time.Time, bool) {
	if condition := claimCondition(in.NodeClaim, karpv1.ConditionTypeRegistered); condition != nil && condition.Status == metav1.ConditionTrue {
		return condition.LastTransitionTime.Time, true
	}
	return in.Node.CreationTimestamp.Time, in.Node.Labels[karpv1.NodeRegisteredLabelKey] == "true"
}

func initialized(in Input) bool {
	condition := claimCondition(in.NodeClaim, karpv1.ConditionTypeInitialized)
	return in.Node.Labels[karpv1.NodeInitializedLabelKey] == "true" || condition != nil && condition.Status == metav1.ConditionTrue
}

func whyNotInitialized(in Input) string {
	condition := claimCondition(in.NodeClaim, karpv1.ConditionTypeInitialized)
	if condition == nil || condition.Reason == "" {
		return ""
	}
	return health.Shorten(fmt.Sprintf(": %s %s", condition.Reason, condition.Message), health.MaxMessage/2)
}

// claimCondition reads the list as it is: StatusConditions would add conditions that nobody wrote.
func claimCondition(nodeClaim *karpv1.NodeClaim, conditionType string) *metav1.Condition {
	if nodeClaim == nil {
		return nil
	}
	for i := range nodeClaim.Status.Conditions {
		if c := &nodeClaim.Status.Conditions[i]; c.Type == conditionType {
			return &metav1.Condition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message, LastTransitionTime: c.LastTransitionTime}
		}
	}
	return nil
}
