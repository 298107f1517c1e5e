package explain

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Merge fills in when each wanted condition last changed its status: the time of the existing one of the same type
// and status, else now. A change of reason or message does not move it. existing may hold conditions of others.
func Merge(existing, wanted []metav1.Condition, now metav1.Time) []metav1.Condition {
	out := make([]metav1.Condition, 0, len(wanted))
	for _, w := range wanted {
		w.LastTransitionTime = now
		for _, e := range existing {
			if e.Type == w.Type && e.Status == w.Status && !e.LastTransitionTime.IsZero() {
				w.LastTransitionTime = e.LastTransitionTime
			}
		}
		out = append(out, w)
	}
	return out
}
