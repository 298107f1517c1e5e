package explain

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// ExplainedBlocker is one thing that stands between a fault and its repair.
type ExplainedBlocker struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Who can lift it, or what does.
	Who string `json:"who"`
	// How, as an instruction; empty where nobody has to do anything.
	How string `json:"how,omitempty"`
	// At is when it is looked at again without anybody doing anything; absent where only a change elsewhere lifts it.
	At *metav1.Time `json:"at,omitempty"`
}

// lifters say who can lift a blocker, or what does.
var lifters = map[decision.BlockerReason]string{
	decision.BlockerTolerating:        "time; at once, who may annotate Nodes",
	decision.BlockerNoPolicy:          "who may write RepairPolicies",
	decision.BlockerPolicyConflict:    "who may write RepairPolicies",
	decision.BlockerPolicyInvalid:     "who may write RepairPolicies",
	decision.BlockerPaused:            "who may write RepairPolicies",
	decision.BlockerAllPaused:         "who may delete RepairPauses",
	decision.BlockerZonePaused:        "who may delete RepairPauses; of a zonal shift: it ends with the shift",
	decision.BlockerNodePoolPaused:    "who may annotate NodePools",
	decision.BlockerDryRun:            "who may write RepairPolicies",
	decision.BlockerVeto:              "who may annotate what bears the veto",
	decision.BlockerNoNode:            "Karpenter",
	decision.BlockerStandalone:        "who may write RepairPolicies",
	decision.BlockerNodePoolMissing:   "who manages the NodePools",
	decision.BlockerNodePoolNotReady:  "Karpenter, once what it says of the NodePool is put right",
	decision.BlockerNodePoolStatic:    "who may write RepairPolicies",
	decision.BlockerNodePoolLimits:    "who manages the NodePools",
	decision.BlockerBudget:            "time, or who manages the NodePools",
	decision.BlockerBudgetInvalid:     "who manages the NodePools",
	decision.BlockerPods:              "the owners of the pods, or who may write RepairPolicies",
	decision.BlockerCorrelated:        "time, as the repairs at work prove themselves; at once, who may annotate Nodes",
	decision.BlockerBackoff:           "time",
	decision.BlockerLaunching:         "Karpenter, as the replacements launch",
	decision.BlockerKarpenterActing:   "Karpenter, when it is done",
	decision.BlockerOtherRepairer:     "who runs Karpenter",
	decision.BlockerRepairInProgress:  "the NodeRepair, when it is done",
	decision.BlockerUnreadable:        "whatever makes it readable again",
	decision.BlockerReplacementFailed: "a person",
	decision.BlockerUnschedulable:     "the owners of the pods, or who manages the NodePools",
	decision.BlockerRecovered:         "nobody has to",
}

// ExplainBlocker says of a blocker who can lift it, how, and when it is looked at again.
func ExplainBlocker(b decision.Blocker) ExplainedBlocker {
	who, ok := lifters[b.Reason]
	if !ok {
		who = "see the message"
	}
	if b.LiftedBy == "" {
		// Of two ways only the one that needs nobody is there.
		who, _, _ = strings.Cut(who, "; ")
	}
	if !b.RetryAt.IsZero() && !strings.HasPrefix(who, "time") {
		who = "time, or " + who
	}
	return ExplainedBlocker{Reason: string(b.Reason), Message: b.Message, Who: who, How: b.LiftedBy, At: moment(b.RetryAt)}
}

// moment gives a time as the API writes it; nil for zero.
func moment(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	out := metav1.NewTime(t.UTC())
	return &out
}
