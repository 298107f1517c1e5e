package metrics

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

var created = time.Unix(1000, 0)

func at(conditionType string, after time.Duration) metav1.Condition {
	return metav1.Condition{Type: conditionType, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(created.Add(after))}
}

func repair(change ...func(*v1alpha1.NodeRepair)) *v1alpha1.NodeRepair {
	r := &v1alpha1.NodeRepair{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(created)},
		Spec:       v1alpha1.NodeRepairSpec{NodePool: "pool", Action: v1alpha1.ActionReplace, Cause: v1alpha1.RepairCause{Category: v1alpha1.CategoryKernel}},
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func phased(p v1alpha1.Phase, conditions ...metav1.Condition) func(*v1alpha1.NodeRepair) {
	return func(r *v1alpha1.NodeRepair) { r.Status.Phase, r.Status.Conditions = p, conditions }
}

func notVerified(reason string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.RepairConditionVerified, Status: metav1.ConditionFalse, Reason: reason}
}

func TestAWriteCountsWhatItMadeTrue(t *testing.T) {
	withdrawn := func(n int) func(*v1alpha1.NodeRepair) {
		return func(r *v1alpha1.NodeRepair) {
			moment := metav1.NewTime(created)
			r.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: "a"}, {NodeClaim: "b", LaunchedAt: &moment}, {NodeClaim: "c", LaunchedAt: &moment, InitializedAt: &moment}}
			for i := range n {
				r.Status.Replacements[i].WithdrawnAt = &moment
			}
		}
	}
	gone := at(v1alpha1.RepairConditionTerminated, 40*time.Second)
	for name, test := range map[string]struct {
		before, after *v1alpha1.NodeRepair
		want          []string
		wantNot       []string
	}{
		"an end is counted with its phases": {
			before: repair(phased(v1alpha1.PhaseVerifying)),
			after: repair(phased(v1alpha1.PhaseFailed, at(v1alpha1.RepairConditionFenced, 2*time.Second), at(v1alpha1.RepairConditionProvisioned, 32*time.Second),
				metav1.Condition{Type: v1alpha1.RepairConditionTerminated, Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(created.Add(time.Hour))})),
			want: []string{
				`autorepair_repair_phase_duration_seconds_count{action="Replace",condition="Terminated"} 0`,
				`autorepair_repairs_total{action="Replace",nodepool="pool",outcome="Failed"} 1`,
				`autorepair_repair_phase_duration_seconds_sum{action="Replace",condition="Fenced"} 2`,
				`autorepair_repair_phase_duration_seconds_sum{action="Replace",condition="Provisioned"} 30`,
			},
			wantNot: []string{"autorepair_false_repairs_total{", "autorepair_time_to_replace_seconds_count{action=\"Replace\"} 1"},
		},
		"an end that was there before is not counted again": {
			before:  repair(phased(v1alpha1.PhaseFailed, gone)),
			after:   repair(phased(v1alpha1.PhaseFailed, gone)),
			wantNot: []string{"autorepair_repairs_total{", "autorepair_time_to_replace_seconds_count{action=\"Replace\"} 1"},
		},
		"the old node is gone": {
			before: repair(phased(v1alpha1.PhaseTerminating)), after: repair(phased(v1alpha1.PhaseReleasing, gone)),
			want:    []string{`autorepair_time_to_replace_seconds_sum{action="Replace"} 40`},
			wantNot: []string{"autorepair_repairs_total{"},
		},
		"the cause came back, so the repair was no help": {
			before: repair(phased(v1alpha1.PhaseVerifying)),
			after:  repair(phased(v1alpha1.PhaseFailed, notVerified(v1alpha1.VerifiedCauseReturned))),
			want: []string{
				`autorepair_false_repairs_total{category="Kernel",nodepool="pool"} 1`,
				`autorepair_repair_phase_duration_seconds_count{action="Replace",condition="Verified"} 0`,
			},
		},
		"the replacement is sick of something else, which proves nothing about the cause": {
			before:  repair(phased(v1alpha1.PhaseVerifying)),
			after:   repair(phased(v1alpha1.PhaseFailed, notVerified(v1alpha1.VerifiedReplacementSick))),
			wantNot: []string{"autorepair_false_repairs_total{"},
		},
		"replacements given up, each by how far it had come": {
			before: repair(withdrawn(0)), after: repair(withdrawn(3)),
			want: []string{
				`autorepair_launches_withdrawn_total{nodepool="pool",stage="Launching"} 1`,
				`autorepair_launches_withdrawn_total{nodepool="pool",stage="Initializing"} 1`,
				`autorepair_launches_withdrawn_total{nodepool="pool",stage="Standing"} 1`,
			},
		},
		"those given up before are not counted again": {
			before: repair(withdrawn(2)), after: repair(withdrawn(2)),
			wantNot: []string{"autorepair_launches_withdrawn_total{"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			series := New()
			series.RepairWritten(test.before, test.after)
			recorder := httptest.NewRecorder()
			series.Handler(prometheus.NewRegistry()).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
			for _, line := range test.want {
				require.Contains(t, recorder.Body.String(), line+"\n")
			}
			for _, part := range test.wantNot {
				require.NotContains(t, recorder.Body.String(), part)
			}
		})
	}
}
