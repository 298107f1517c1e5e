package cli

import (
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
)

// age says how long ago t is, as kubectl does: 5m, 3h12m, 2d. Empty where t is not known.
func age(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration.HumanDuration(max(now.Sub(t), 0))
}

// stamp writes a moment for people.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
