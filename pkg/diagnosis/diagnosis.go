// Package diagnosis turns findings into what a NodeClaim says of itself: one fact per category, and a verdict by
// policy. It is pure: values and now go in, values come out.
package diagnosis

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Reasons of a Fact that is not about a finding.
const (
	ReasonHealthy           = "Healthy"
	ReasonSourceSilent      = "SourceSilent"
	ReasonSourceUnavailable = "SourceUnavailable"
)

// RuleRepairRequested stands in the place of a rule's name where a person asked for the repair.
const RuleRepairRequested = "repair-requested"

// Subject is the NodeClaim that is diagnosed, with all that is known about its node.
type Subject struct {
	// Name and Labels of the NodeClaim.
	Name   string
	Labels map[string]string
	// Health is nil where nothing watches the node.
	Health *v1alpha1.NodeHealth
}

// Fact is the state of one category. Status Unknown means that no source can tell: neither sick nor healthy.
type Fact struct {
	Category v1alpha1.Category
	Status   metav1.ConditionStatus
	// Reason is the worst active finding's, or Healthy, SourceSilent, SourceUnavailable.
	Reason string
	// Message lists every active finding of the category with its start.
	Message string
}

// Judgement is what a policy makes of one Fatal finding.
type Judgement struct {
	Finding v1alpha1.Finding
	// Policy and Rule that matched; empty where none did.
	Policy string
	Rule   string
	Action v1alpha1.Action
	// EligibleAt is when the toleration has passed. Zero where no rule matched.
	EligibleAt time.Time
	Priority   int32
	DrainBound *time.Duration
}

// Verdict is what shall be done about a NodeClaim, and why.
type Verdict struct {
	// Policy that governs the NodeClaim; nil where none selects it, or where several of equal weight do.
	Policy *v1alpha1.RepairPolicy
	// Conflict names the policies of equal weight that block each other; empty where there is no conflict.
	Conflict []string
	// Invalid says why the governing policy cannot be used; empty where it can.
	Invalid string
	// Judgements of all Fatal findings that can be trusted (their source is not silent), worst first.
	Judgements []Judgement
	// Deciding is the judgement that decides: among those whose toleration has passed the one with the strongest
	// action (Replace before Reboot), then priority, then age; before any has passed, the one that passes first.
	// nil where no finding is matched by a rule with an action other than None.
	Deciding *Judgement
	// Unhealthy is true once Deciding's toleration has passed.
	Unhealthy bool
}

// Diagnosis is all that is said of one NodeClaim. NextChange is the next moment at which it can change by itself;
// zero where there is none.
type Diagnosis struct {
	Facts      []Fact
	Verdict    Verdict
	NextChange time.Time
}
