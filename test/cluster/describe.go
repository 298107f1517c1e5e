package cluster

import (
	"strings"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// OurConditions cuts the conditions of ours out of what kubectl describe shows of a NodeClaim.
func OurConditions(describe string) string {
	var kept, block []string
	for _, line := range strings.Split(describe, "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if key == "Last Transition Time" {
			block = nil
		}
		block = append(block, line)
		// The type is the last line of a condition.
		if key == "Type" && strings.HasPrefix(strings.TrimSpace(value), v1alpha1.Group+"/") {
			kept = append(kept, block...)
		}
	}
	return strings.Join(kept, "\n")
}
