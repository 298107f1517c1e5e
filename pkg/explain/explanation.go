package explain

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// State sums up how things stand with a node.
type State string

// The states, of which exactly one holds.
const (
	// StateUnwatched: nothing states anything about the node.
	StateUnwatched State = "Unwatched"
	// StateUnknown: nothing Fatal is known that can be trusted, and of some category nothing can be told at all.
	StateUnknown State = "Unknown"
	// StateHealthy: nothing Fatal is known, and whoever is there to look can see.
	StateHealthy State = "Healthy"
	// StateShownOnly: what is Fatal is only shown, since its rule says action: None.
	StateShownOnly State = "ShownOnly"
	// StateTolerated: only the toleration stands between the fault and the repair.
	StateTolerated State = "Tolerated"
	// StateBlocked: something else does.
	StateBlocked State = "Blocked"
	// StateAdmitted: the next pass of the controller starts the repair.
	StateAdmitted State = "Admitted"
	// StateRepairing: a NodeRepair is at work.
	StateRepairing State = "Repairing"
	// StateLeaving: the node is being deleted anyway.
	StateLeaving State = "Leaving"
)

// About is all that is known about one NodeClaim: objects, and what has been made of them.
type About struct {
	NodeClaim *karpv1.NodeClaim
	// Node and Health are nil where there are none.
	Node   *corev1.Node
	Health *v1alpha1.NodeHealth
	// Diagnosis of the NodeClaim.
	Diagnosis diagnosis.Diagnosis
	// Entry of the NodeClaim in the decision's input.
	Entry decision.Node
	// Decision about it; nil where there is nothing to decide.
	Decision *decision.Decision
	// Repairs are all NodeRepairs that are kept, of this NodeClaim and of others.
	Repairs []v1alpha1.NodeRepair
	// Controller is what its lease says; nil where none was found or may be read.
	Controller *Controller
}

// Controller is what the lease of the controller's leader election says.
type Controller struct {
	Namespace, Holder string
	// Renewed is when the holder last said that it lives; zero for never.
	Renewed time.Time
}

// Explanation is all that there is to say about one node and its NodeClaim at a time: what is wrong, what will be done
// about it when, what stands in the way, and what has been done. It is what explain prints as json and yaml.
type Explanation struct {
	// Time of which it speaks.
	Time metav1.Time `json:"time"`
	// State in one word, Summary in a sentence or two.
	State   State  `json:"state"`
	Summary string `json:"summary"`

	NodeClaim    string `json:"nodeClaim,omitempty"`
	Node         string `json:"node,omitempty"`
	NodePool     string `json:"nodePool,omitempty"`
	Zone         string `json:"zone,omitempty"`
	InstanceType string `json:"instanceType,omitempty"`
	CapacityType string `json:"capacityType,omitempty"`
	Image        string `json:"image,omitempty"`

	// Findings that hold now, the worst first, with what the policy makes of each.
	Findings []ExplainedFinding `json:"findings"`
	// Sources that look at the node.
	Sources []ExplainedSource `json:"sources"`
	// Facts are the conditions by category.
	Facts []ExplainedFact `json:"facts"`
	// Policy that governs the NodeClaim; absent where none does.
	Policy *ExplainedPolicy `json:"policy,omitempty"`
	// Decision of the next pass of the controller; absent where there is nothing to decide.
	Decision *ExplainedDecision `json:"decision,omitempty"`
	// Blockers, every one, in the order of the gates.
	Blockers []ExplainedBlocker `json:"blockers"`
	// Repair that is at work; absent where none is.
	Repair *ExplainedRepair `json:"repair,omitempty"`
	// Next is what is known to happen, or to be looked at again, the next first.
	Next []Moment `json:"next"`
	// Timeline of the present fault and of all repairs that are kept, the oldest first.
	Timeline []Moment `json:"timeline"`
	// Written compares what the controller last wrote on the NodeClaim with what holds now.
	Written Written `json:"written"`
}

// ExplainedFinding is a finding, and what the policy makes of it.
type ExplainedFinding struct {
	v1alpha1.Finding `json:",inline"`
	// Trusted is false where the source of the finding can see no more.
	Trusted bool `json:"trusted"`
	// Rule of the policy that matches, and what it says; absent where none does, or the finding is a Warning.
	Rule   string          `json:"rule,omitempty"`
	Action v1alpha1.Action `json:"action,omitempty"`
	// ToleratedUntil is when the rule's toleration ends or has ended.
	ToleratedUntil *metav1.Time `json:"toleratedUntil,omitempty"`
	// Decides: it is this finding that the repair rests on.
	Decides bool `json:"decides,omitempty"`
	// Explanation and Remedy are the catalogue's; empty where it does not know the reason.
	Explanation string `json:"explanation,omitempty"`
	Remedy      string `json:"remedy,omitempty"`
}

// ExplainedSource is who looks at the node, and whether it can see.
type ExplainedSource struct {
	Name  string `json:"name"`
	State string `json:"state"` // Active, Degraded, Unavailable, or Silent
	// LastHeartbeat and SilentFrom are absent for sources that run in the controller.
	LastHeartbeat *metav1.Time `json:"lastHeartbeat,omitempty"`
	SilentFrom    *metav1.Time `json:"silentFrom,omitempty"`
	Message       string       `json:"message,omitempty"`
}

// ExplainedFact is the condition of a category.
type ExplainedFact struct {
	Type    string                 `json:"type"`
	Status  metav1.ConditionStatus `json:"status"`
	Reason  string                 `json:"reason"`
	Message string                 `json:"message"`
}

// ExplainedPolicy is the policy that governs the NodeClaim, and its rule that decides.
type ExplainedPolicy struct {
	Name   string        `json:"name"`
	Weight int32         `json:"weight"`
	Mode   v1alpha1.Mode `json:"mode"`
	// Rule that decides; empty where no finding is acted on, repair-requested where a person asked for the repair.
	Rule string `json:"rule,omitempty"`
	// Tolerate of the rule; empty without a rule.
	Tolerate string `json:"tolerate,omitempty"`
	Priority int32  `json:"priority,omitempty"`
	// Conflict names the policies that block each other, Invalid says why the policy cannot be used.
	Conflict []string `json:"conflict,omitempty"`
	Invalid  string   `json:"invalid,omitempty"`
}

// ExplainedDecision is what the next pass of the controller decides.
type ExplainedDecision struct {
	// Admitted: the repair starts.
	Admitted       bool            `json:"admitted"`
	Action         v1alpha1.Action `json:"action,omitempty"`
	TerminateFirst bool            `json:"terminateFirst,omitempty"`
	// DrainBound is the longest that pods may hold up the node's end; absent: without end.
	DrainBound *metav1.Duration `json:"drainBound,omitempty"`
	// Note explains a choice that differs from the rule's.
	Note string `json:"note,omitempty"`
	// Score orders the sick nodes: priority + age past eligibility / 30 min - repairs that failed within a day.
	Score float64 `json:"score"`
	// ReschedulablePods have to move.
	ReschedulablePods int `json:"reschedulablePods"`
}

// ExplainedRepair is the NodeRepair at work.
type ExplainedRepair struct {
	Name    string          `json:"name"`
	Action  v1alpha1.Action `json:"action"`
	Phase   v1alpha1.Phase  `json:"phase"`
	Started metav1.Time     `json:"started"`
	// Message says in words what happens next.
	Message string `json:"message"`
	// Replacement is the name of the newest replacement NodeClaim.
	Replacement string `json:"replacement,omitempty"`
}

// Explain puts what is known about a NodeClaim into words. It decides nothing: the diagnosis and the decision are the
// controller's own.
func Explain(now time.Time, about About) Explanation {
	repairs := ofNodeClaim(about)
	repair := unfinished(repairs, about.NodeClaim.UID)
	e := Explanation{
		Time:         metav1.NewTime(now.UTC()),
		NodeClaim:    about.NodeClaim.Name,
		Node:         about.Entry.NodeName,
		NodePool:     about.Entry.NodePool,
		Zone:         about.Entry.Zone,
		InstanceType: about.Entry.InstanceType,
		CapacityType: about.Entry.CapacityType,
		Image:        about.Entry.Image,
		Findings:     findings(about),
		Sources:      sources(now, about.Health),
		Facts:        facts(about.Diagnosis),
		Policy:       policy(now, about.Diagnosis.Verdict),
		Decision:     explainDecision(about.Decision),
		Blockers:     []ExplainedBlocker{},
		Repair:       explainRepair(repair),
	}
	for _, b := range blockersNow(now, about, repair) {
		e.Blockers = append(e.Blockers, ExplainBlocker(b))
	}
	e.State = state(about, repair, e.Blockers)
	e.Written = written(now, about, repair)
	e.Summary = summary(now, about, e)
	e.Next = next(now, about, e.Blockers, repair)
	e.Timeline = timeline(now, about, repairs)
	return e
}

// blockersNow gives every blocker; of a node that is being repaired none, since the decision was made.
func blockersNow(now time.Time, about About, repair *v1alpha1.NodeRepair) []decision.Blocker {
	if repair != nil {
		return nil
	}
	return blockers(now, about.Diagnosis.Verdict, about.Decision)
}

func state(about About, repair *v1alpha1.NodeRepair, blockers []ExplainedBlocker) State {
	verdict := about.Diagnosis.Verdict
	switch {
	case repair != nil:
		return StateRepairing
	case about.Entry.Deleting || about.Entry.Terminated:
		return StateLeaving
	case len(about.Diagnosis.Facts) == 0 && len(verdict.Judgements) == 0:
		return StateUnwatched
	case len(verdict.Judgements) == 0 && len(unknown(about.Diagnosis)) > 0:
		return StateUnknown
	case len(verdict.Judgements) == 0:
		return StateHealthy
	case len(blockers) == 0 && about.Decision != nil && about.Decision.Admitted:
		return StateAdmitted
	case len(blockers) == 0:
		return StateShownOnly
	case len(blockers) == 1 && blockers[0].Reason == string(decision.BlockerTolerating):
		return StateTolerated
	default:
		return StateBlocked
	}
}

func findings(about About) []ExplainedFinding {
	out := []ExplainedFinding{}
	if about.Health == nil {
		return out
	}
	verdict := about.Diagnosis.Verdict
	for _, finding := range about.Health.Findings {
		explained := ExplainedFinding{Finding: finding, Trusted: finding.Severity != v1alpha1.SeverityFatal}
		for i := range verdict.Judgements {
			judgement := &verdict.Judgements[i]
			if !same(judgement.Finding, finding) {
				continue
			}
			explained.Trusted, explained.Rule, explained.Action = true, judgement.Rule, judgement.Action
			explained.ToleratedUntil = moment(judgement.EligibleAt)
			explained.Decides = verdict.Deciding != nil && same(verdict.Deciding.Finding, finding)
		}
		if reason, ok := health.Lookup(finding.Reason); ok {
			explained.Explanation, explained.Remedy = reason.Explanation, reason.Remedy
		}
		out = append(out, explained)
	}
	slices.SortStableFunc(out, worse)
	return out
}

// worse orders what decides first, then Fatal, then the oldest, then by name.
func worse(a, b ExplainedFinding) int {
	rank := func(f ExplainedFinding) int {
		switch {
		case f.Decides:
			return 0
		case f.Severity == v1alpha1.SeverityFatal && f.Trusted:
			return 1
		case f.Severity == v1alpha1.SeverityFatal:
			return 2
		default:
			return 3
		}
	}
	return cmp.Or(
		cmp.Compare(rank(a), rank(b)), a.Since.Compare(b.Since.Time),
		cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Source, b.Source),
	)
}

func sources(now time.Time, nodeHealth *v1alpha1.NodeHealth) []ExplainedSource {
	out := []ExplainedSource{}
	if nodeHealth == nil {
		return out
	}
	for _, source := range nodeHealth.Sources {
		explained := ExplainedSource{Name: source.Name, State: string(source.State), LastHeartbeat: source.LastHeartbeat, Message: source.Message}
		if at, ok := health.SilentAt(source); ok {
			explained.SilentFrom = moment(at)
		}
		if health.Silent(source, now) {
			explained.State = "Silent"
		}
		out = append(out, explained)
	}
	slices.SortFunc(out, func(a, b ExplainedSource) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func facts(d diagnosis.Diagnosis) []ExplainedFact {
	out := make([]ExplainedFact, 0, len(d.Facts))
	for _, fact := range d.Facts {
		out = append(out, ExplainedFact{Type: health.ConditionType(fact.Category), Status: fact.Status, Reason: fact.Reason, Message: fact.Message})
	}
	return out
}

func policy(now time.Time, verdict diagnosis.Verdict) *ExplainedPolicy {
	switch {
	case len(verdict.Conflict) > 0:
		return &ExplainedPolicy{Conflict: verdict.Conflict}
	case verdict.Policy == nil:
		return nil
	}
	p := &ExplainedPolicy{
		Name: verdict.Policy.Name, Weight: verdict.Policy.Spec.Weight, Mode: modeAt(verdict.Policy, now), Invalid: verdict.Invalid,
	}
	if deciding := verdict.Deciding; deciding != nil {
		p.Rule, p.Priority = deciding.Rule, deciding.Priority
		if !deciding.Requested() {
			p.Tolerate = deciding.EligibleAt.Sub(deciding.Finding.Since.Time).String()
		}
	}
	return p
}

// modeAt gives the mode of a policy at now, that of one which the API server has not defaulted too.
func modeAt(policy *v1alpha1.RepairPolicy, now time.Time) v1alpha1.Mode {
	return cmp.Or(decision.ModeAt(policy, now), v1alpha1.ModeEnforce)
}

func explainDecision(d *decision.Decision) *ExplainedDecision {
	if d == nil {
		return nil
	}
	out := &ExplainedDecision{
		Admitted: d.Admitted, Action: d.Action, TerminateFirst: d.TerminateFirst, Note: d.Note, Score: d.Score,
		ReschedulablePods: d.Node.ReschedulablePods,
	}
	if d.DrainBound != nil {
		out.DrainBound = &metav1.Duration{Duration: *d.DrainBound}
	}
	return out
}

func explainRepair(repair *v1alpha1.NodeRepair) *ExplainedRepair {
	if repair == nil {
		return nil
	}
	phase := repair.Status.Phase
	if phase == "" {
		phase = v1alpha1.PhaseCommitted
	}
	out := &ExplainedRepair{
		Name: repair.Name, Action: repair.Spec.Action, Phase: phase, Started: repair.CreationTimestamp, Message: repair.Status.Message,
	}
	if out.Message == "" {
		out.Message = nextOf(phase, repair.Spec.Action)
	}
	if n := len(repair.Status.Replacements); n > 0 {
		out.Replacement = repair.Status.Replacements[n-1].NodeClaim
	}
	return out
}

// ofNodeClaim are the repairs of the NodeClaim, of its Node, and the one that it was made by, the oldest first.
func ofNodeClaim(about About) []v1alpha1.NodeRepair {
	var out []v1alpha1.NodeRepair
	for i := range about.Repairs {
		repair := &about.Repairs[i]
		if repair.Spec.NodeClaim.UID == about.NodeClaim.UID || madeBy(about, repair) ||
			(about.Entry.NodeName != "" && repair.Spec.NodeName == about.Entry.NodeName) {
			out = append(out, *repair)
		}
	}
	slices.SortStableFunc(out, func(a, b v1alpha1.NodeRepair) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// madeBy says whether the NodeClaim is a replacement of the repair.
func madeBy(about About, repair *v1alpha1.NodeRepair) bool {
	return about.NodeClaim.Labels[v1alpha1.NodeRepairLabel] == repair.Name ||
		slices.ContainsFunc(repair.Status.Replacements, func(r v1alpha1.ReplacementStatus) bool { return r.NodeClaim == about.NodeClaim.Name })
}

func unfinished(repairs []v1alpha1.NodeRepair, nodeClaim types.UID) *v1alpha1.NodeRepair {
	for i := range repairs {
		if repairs[i].Spec.NodeClaim.UID == nodeClaim && !repairs[i].Finished() {
			return &repairs[i]
		}
	}
	return nil
}
