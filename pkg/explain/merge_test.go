package explain

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMerge(t *testing.T) {
	then, now := metav1.NewTime(start), metav1.NewTime(start.Add(time.Hour))
	of := func(conditionType string, status metav1.ConditionStatus, reason string, at metav1.Time) metav1.Condition {
		return metav1.Condition{Type: conditionType, Status: status, Reason: reason, LastTransitionTime: at}
	}
	tests := map[string]struct {
		existing []metav1.Condition
		want     metav1.Condition
	}{
		"a new condition begins now":                 {nil, of("A", "False", "R", now)},
		"one whose status flips begins now":          {[]metav1.Condition{of("A", "True", "R", then)}, of("A", "False", "R", now)},
		"one that stays keeps its time":              {[]metav1.Condition{of("A", "False", "R", then)}, of("A", "False", "R", then)},
		"another reason does not move it":            {[]metav1.Condition{of("A", "False", "Other", then)}, of("A", "False", "R", then)},
		"conditions of others do not matter":         {[]metav1.Condition{of("B", "False", "R", then)}, of("A", "False", "R", now)},
		"a time that was never written is filled in": {[]metav1.Condition{of("A", "False", "R", metav1.Time{})}, of("A", "False", "R", now)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, []metav1.Condition{tt.want}, Merge(tt.existing, []metav1.Condition{of("A", "False", "R", metav1.Time{})}, now))
		})
	}
}
