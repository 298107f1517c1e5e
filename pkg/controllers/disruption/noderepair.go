package disruption

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// newNodeRepair writes a decision down, with as many replacements as were planned.
func newNodeRepair(d decision.Decision, name string, replacements int) *v1alpha1.NodeRepair {
	deciding := d.Node.Verdict.Deciding
	repair := &v1alpha1.NodeRepair{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}},
		Spec: v1alpha1.NodeRepairSpec{
			NodeClaim:      v1alpha1.NodeClaimReference{Name: d.Node.NodeClaim, UID: d.Node.NodeClaimUID},
			NodeName:       d.Node.NodeName,
			NodePool:       d.Node.NodePool,
			Action:         d.Action,
			TerminateFirst: d.TerminateFirst,
			Cause: v1alpha1.RepairCause{
				Reason:   deciding.Finding.Reason,
				Category: deciding.Finding.Category,
				Subject:  deciding.Finding.Subject,
				Source:   deciding.Finding.Source,
				Message:  deciding.Finding.Message,
				Since:    deciding.Finding.Since,
			},
			Policy:       v1alpha1.PolicyReference{Name: deciding.Policy, Rule: deciding.Rule},
			Replacements: int32(min(replacements, 1)),
		},
	}
	if d.TerminateFirst && d.Node.ReschedulablePods > 0 {
		repair.Spec.Replacements = 1 // which Karpenter makes
	}
	if d.DrainBound != nil {
		repair.Spec.DrainBound = &metav1.Duration{Duration: *d.DrainBound}
	}
	if policy := d.Node.Verdict.Policy; policy != nil {
		policy.Spec.Replacement.DeepCopyInto(&repair.Spec.Replacement)
	}
	for label, value := range map[string]string{v1alpha1.NodeClaimLabel: d.Node.NodeClaim, v1alpha1.NodePoolLabel: d.Node.NodePool} {
		// A name may be longer than a label's value; the spec has it in any case.
		if value != "" && len(validation.IsValidLabelValue(value)) == 0 {
			repair.Labels[label] = value
		}
	}
	return repair
}

// atWork says whether an unfinished NodeRepair of the NodeClaim exists.
func atWork(repairs []v1alpha1.NodeRepair, nodeClaim types.UID) bool {
	return slices.ContainsFunc(repairs, func(repair v1alpha1.NodeRepair) bool {
		return repair.Spec.NodeClaim.UID == nodeClaim && !repair.Finished()
	})
}

// nextName gives the name of the NodeClaim's next NodeRepair. It rests on what is kept alone, so that two writers that
// see the same choose the same and only one of them succeeds.
func nextName(repairs []v1alpha1.NodeRepair, nodeClaim string) string {
	last := 0
	for i := range repairs {
		suffix, ok := strings.CutPrefix(repairs[i].Name, nodeClaim+"-")
		if n, err := strconv.Atoi(suffix); ok && err == nil {
			last = max(last, n)
		}
	}
	return fmt.Sprintf("%s-%d", nodeClaim, last+1)
}
