package metrics

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// Stages of a replacement that was given up.
const (
	stageLaunching    = "Launching"
	stageInitializing = "Initializing"
	stageStanding     = "Standing"
)

// phaseEnds are the conditions that end the phases of a repair, in their order.
var phaseEnds = []string{
	v1alpha1.RepairConditionFenced, v1alpha1.RepairConditionProvisioned, v1alpha1.RepairConditionTerminated,
	v1alpha1.RepairConditionRebooted, v1alpha1.RepairConditionReleased, v1alpha1.RepairConditionVerified,
}

// RepairWritten counts what a write of a NodeRepair's status, which has landed, has made true.
func (m *Metrics) RepairWritten(before, after *v1alpha1.NodeRepair) {
	for _, done := range []string{v1alpha1.RepairConditionTerminated, v1alpha1.RepairConditionRebooted} {
		condition := meta.FindStatusCondition(after.Status.Conditions, done)
		if condition != nil && condition.Status == metav1.ConditionTrue && !meta.IsStatusConditionTrue(before.Status.Conditions, done) {
			took := condition.LastTransitionTime.Sub(after.CreationTimestamp.Time)
			m.replace.WithLabelValues(string(after.Spec.Action)).Observe(max(took.Seconds(), 0))
		}
	}
	for _, r := range after.WithdrawnSince(before) {
		m.withdrawn.WithLabelValues(after.Spec.NodePool, stageOf(&r)).Inc()
	}
	if after.Finished() && !before.Finished() {
		m.finished(after)
	}
}

func stageOf(r *v1alpha1.ReplacementStatus) string {
	switch {
	case r.InitializedAt != nil:
		return stageStanding
	case r.LaunchedAt != nil:
		return stageInitializing
	default:
		return stageLaunching
	}
}

func (m *Metrics) finished(repair *v1alpha1.NodeRepair) {
	action := string(repair.Spec.Action)
	m.repairs.WithLabelValues(repair.Spec.NodePool, string(repair.Status.Phase), action).Inc()
	if repair.CauseReturned() {
		m.falseRepairs.WithLabelValues(repair.Spec.NodePool, string(repair.Spec.Cause.Category)).Inc()
	}
	previous := repair.CreationTimestamp
	for _, conditionType := range phaseEnds {
		condition := meta.FindStatusCondition(repair.Status.Conditions, conditionType)
		if condition == nil || condition.Status != metav1.ConditionTrue {
			continue
		}
		m.phase.WithLabelValues(conditionType, action).Observe(max(condition.LastTransitionTime.Sub(previous.Time).Seconds(), 0))
		previous = condition.LastTransitionTime
	}
}

// KnowNodePool lets the counters of a NodePool begin at zero: of one that first shows itself at 1 Prometheus would see
// no increase.
func (m *Metrics) KnowNodePool(name string) {
	for _, action := range []v1alpha1.Action{v1alpha1.ActionReplace, v1alpha1.ActionReboot} {
		for _, outcome := range []v1alpha1.Phase{v1alpha1.PhaseSucceeded, v1alpha1.PhaseFailed, v1alpha1.PhaseCanceled, v1alpha1.PhaseYielded} {
			m.repairs.WithLabelValues(name, string(outcome), string(action))
		}
	}
	for _, stage := range []string{stageLaunching, stageInitializing, stageStanding} {
		m.withdrawn.WithLabelValues(name, stage)
	}
	for _, category := range health.Categories {
		m.falseRepairs.WithLabelValues(name, string(category))
	}
}
