package cli

import (
	"fmt"
	"strconv"
	"strings"
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

// maxLength bounds durations that people write: ten years.
const maxLength = 10 * 365 * 24 * time.Hour

// parseLength reads a positive duration: what Go reads, and days as 7d.
func parseLength(text string) (time.Duration, error) {
	length, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		n, atoiErr := strconv.ParseUint(days, 10, 16)
		length, err = time.Duration(n)*24*time.Hour, atoiErr
	}
	if err != nil || length <= 0 || length > maxLength {
		return 0, fmt.Errorf("%q is no duration: write for example 30m, 2h or 7d", text)
	}
	return length, nil
}
