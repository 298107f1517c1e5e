package cluster

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Reasons of the source kubelet.
const (
	ReasonNodeNotReady      = "NodeNotReady"
	ReasonNodeStatusUnknown = "NodeStatusUnknown"
)

// leasesAgain is how soon the leases of the cluster are counted again while a node's Ready is Unknown.
const leasesAgain = 30 * time.Second

// ReadyUnknown says that the kubelet of the node is silent, so that the leases of the others matter.
func ReadyUnknown(node *corev1.Node) bool {
	ready := conditionOf(node, corev1.NodeReady)
	return ready != nil && ready.Status == corev1.ConditionUnknown
}

// kubelet finds a node that is not Ready, and one whose kubelet is silent while most others are not.
func kubelet(in Input) (detector.Report, time.Time) {
	report := active(SourceKubelet, v1alpha1.CategoryKubelet)
	ready := conditionOf(in.Node, corev1.NodeReady)
	if ready == nil {
		report.Source.State = v1alpha1.SourceUnavailable
		report.Source.Message = "the Node has no condition Ready yet"
		return report, time.Time{}
	}
	switch ready.Status {
	case corev1.ConditionFalse:
		report.Findings = append(report.Findings, kubeletFinding(in, ReasonNodeNotReady, ready))
	case corev1.ConditionUnknown:
		again := in.Now.Add(leasesAgain)
		if in.Leases.MostExpired() {
			report.Source.State = v1alpha1.SourceUnavailable
			report.Source.Message = "most node leases have expired at once: the fault is on the way to the API server, not in one node"
			return report, again
		}
		report.Findings = append(report.Findings, kubeletFinding(in, ReasonNodeStatusUnknown, ready))
		return report, again
	default: // True
	}
	return report, time.Time{}
}

func kubeletFinding(in Input, reason string, ready *corev1.NodeCondition) v1alpha1.Finding {
	return v1alpha1.Finding{
		Source:   SourceKubelet,
		Reason:   reason,
		Category: v1alpha1.CategoryKubelet,
		Severity: v1alpha1.SeverityFatal,
		Since:    in.since(SourceKubelet, reason, "", ready.LastTransitionTime.Time),
		Message:  health.Shorten(fmt.Sprintf("Ready is %s: %s %s", ready.Status, ready.Reason, ready.Message), health.MaxMessage),
	}
}
