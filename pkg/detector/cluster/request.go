package cluster

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Reasons of the source repair-request.
const (
	ReasonRepairRequested      = "RepairRequested"
	ReasonInvalidRepairRequest = "InvalidRepairRequest"
)

// repairRequest finds what a person asks for with the annotation autorepair.sh/repair.
func repairRequest(in Input) detector.Report {
	report := active(SourceRepairRequest, v1alpha1.CategoryRequest)
	add := func(kind string, object metav1.Object) {
		if value, ok := object.GetAnnotations()[v1alpha1.RepairRequestAnnotation]; ok {
			report.Findings = append(report.Findings, requestFinding(in, kind, value))
		}
	}
	add("Node", in.Node)
	if in.NodeClaim != nil {
		add("NodeClaim", in.NodeClaim)
	}
	return report
}

func requestFinding(in Input, kind, value string) v1alpha1.Finding {
	finding := v1alpha1.Finding{
		Source:   SourceRepairRequest,
		Reason:   ReasonRepairRequested,
		Subject:  value,
		Category: v1alpha1.CategoryRequest,
		Severity: v1alpha1.SeverityFatal,
		Message:  fmt.Sprintf("annotation %s on the %s asks for %s", v1alpha1.RepairRequestAnnotation, kind, value),
	}
	switch v1alpha1.Action(value) {
	case v1alpha1.ActionReplace, v1alpha1.ActionReboot:
	default:
		finding.Reason, finding.Subject, finding.Severity = ReasonInvalidRepairRequest, kind, v1alpha1.SeverityWarning
		finding.Message = fmt.Sprintf("annotation %s on the %s is %q: write %s or %s", v1alpha1.RepairRequestAnnotation, kind,
			health.Shorten(value, 100), v1alpha1.ActionReplace, v1alpha1.ActionReboot)
	}
	finding.Since = in.since(SourceRepairRequest, finding.Reason, finding.Subject, time.Time{})
	return finding
}
