package explain

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// Simulation is what the controller's next pass decides about a cluster at a time. It is what simulate prints as json and
// yaml.
type Simulation struct {
	// Time of the pass.
	Time metav1.Time `json:"time"`
	// NodeClaims, and how many of them have a Fatal finding that can be trusted.
	NodeClaims int `json:"nodeClaims"`
	Sick       int `json:"sick"`
	// Repairs that start, in their order.
	Repairs []SimulatedNode `json:"repairs"`
	// AtWork are the sick nodes that a NodeRepair is at work on already.
	AtWork []SimulatedNode `json:"atWork"`
	// Held are the other sick nodes, in the order in which they would start if nothing blocked them.
	Held []SimulatedNode `json:"held"`
	// ShownOnly are the sick nodes about which there is nothing to decide: what they have is only shown (action: None), or
	// they are leaving anyway.
	ShownOnly []SimulatedNode `json:"shownOnly"`
	// NextChange is the earliest moment at which a blocker is looked at again; absent where none is.
	NextChange *metav1.Time `json:"nextChange,omitempty"`
	// Policies say what each RepairPolicy governs.
	Policies []SimulatedPolicy `json:"policies"`
}

// SimulatedNode is what is decided about one sick node.
type SimulatedNode struct {
	// Order in which the repairs start, from 1; 0 for those that do not.
	Order     int    `json:"order,omitempty"`
	NodeClaim string `json:"nodeClaim"`
	Node      string `json:"node,omitempty"`
	NodePool  string `json:"nodePool,omitempty"`
	// Reason, Subject and Since of the finding that decides, or of the worst.
	Reason  string      `json:"reason"`
	Subject string      `json:"subject,omitempty"`
	Since   metav1.Time `json:"since"`
	// Policy and Rule that match; empty where none does.
	Policy string `json:"policy,omitempty"`
	Rule   string `json:"rule,omitempty"`
	// EligibleAt is when the toleration ends or has ended.
	EligibleAt     *metav1.Time       `json:"eligibleAt,omitempty"`
	Action         v1alpha1.Action    `json:"action,omitempty"`
	TerminateFirst bool               `json:"terminateFirst,omitempty"`
	DrainBound     *metav1.Duration   `json:"drainBound,omitempty"`
	Note           string             `json:"note,omitempty"`
	Score          float64            `json:"score"`
	Blockers       []ExplainedBlocker `json:"blockers,omitempty"`
}

// SimulatedPolicy is what a RepairPolicy governs.
type SimulatedPolicy struct {
	Name   string        `json:"name"`
	Mode   v1alpha1.Mode `json:"mode"`
	Weight int32         `json:"weight"`
	// NodeClaims that it governs, and how many of them are sick.
	NodeClaims int `json:"nodeClaims"`
	Sick       int `json:"sick"`
	// Problems say why it cannot be used as written.
	Problems []string `json:"problems,omitempty"`
}

// Simulate puts the decision of one pass into the form that people and programs read.
func Simulate(in decision.Input, policies []v1alpha1.RepairPolicy) Simulation {
	result := decision.Decide(in)
	s := Simulation{
		Time: metav1.NewTime(in.Now.UTC()), NodeClaims: len(in.Nodes), NextChange: moment(result.NextChange),
		Repairs: []SimulatedNode{}, AtWork: []SimulatedNode{}, Held: []SimulatedNode{}, ShownOnly: []SimulatedNode{},
		Policies: simulatedPolicies(in, policies),
	}
	decided := map[string]bool{}
	for i := range result.Decisions {
		d := &result.Decisions[i]
		decided[d.Node.NodeClaim] = true
		node := simulatedNode(d)
		switch {
		case d.Admitted:
			node.Order = len(s.Repairs) + 1
			s.Repairs = append(s.Repairs, node)
		case slices.ContainsFunc(d.Blockers, func(b decision.Blocker) bool { return b.Reason == decision.BlockerRepairInProgress }):
			s.AtWork = append(s.AtWork, node)
		default:
			s.Held = append(s.Held, node)
		}
	}
	for i := range in.Nodes {
		node := &in.Nodes[i]
		if len(node.Verdict.Judgements) == 0 {
			continue
		}
		s.Sick++
		if !decided[node.NodeClaim] {
			s.ShownOnly = append(s.ShownOnly, simulatedNode(&decision.Decision{Node: *node}))
		}
	}
	slices.SortFunc(s.ShownOnly, func(a, b SimulatedNode) int { return strings.Compare(a.NodeClaim, b.NodeClaim) })
	return s
}

func simulatedNode(d *decision.Decision) SimulatedNode {
	verdict := d.Node.Verdict
	judgement := verdict.Deciding
	if judgement == nil {
		judgement = &verdict.Judgements[0]
	}
	out := SimulatedNode{
		NodeClaim: d.Node.NodeClaim, Node: d.Node.NodeName, NodePool: d.Node.NodePool,
		Reason: judgement.Finding.Reason, Subject: judgement.Finding.Subject, Since: metav1.NewTime(judgement.Finding.Since.UTC()),
		Policy: judgement.Policy, Rule: judgement.Rule, EligibleAt: moment(judgement.EligibleAt),
		Action: d.Action, TerminateFirst: d.TerminateFirst, Note: d.Note, Score: d.Score,
	}
	if out.Action == "" {
		out.Action = judgement.Action
	}
	if d.DrainBound != nil {
		out.DrainBound = &metav1.Duration{Duration: *d.DrainBound}
	}
	for _, b := range d.Blockers {
		out.Blockers = append(out.Blockers, ExplainBlocker(b))
	}
	return out
}

func simulatedPolicies(in decision.Input, policies []v1alpha1.RepairPolicy) []SimulatedPolicy {
	compiled := diagnosis.Compile(policies)
	out := make([]SimulatedPolicy, 0, len(policies))
	for i := range policies {
		p := SimulatedPolicy{
			Name: policies[i].Name, Weight: policies[i].Spec.Weight, Mode: modeAt(&policies[i], in.Now), Problems: compiled.Problems(policies[i].Name),
		}
		for j := range in.Nodes {
			verdict := &in.Nodes[j].Verdict
			if verdict.Policy == nil || verdict.Policy.Name != p.Name {
				continue
			}
			p.NodeClaims++
			if len(verdict.Judgements) > 0 {
				p.Sick++
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b SimulatedPolicy) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Name, b.Name))
	})
	return out
}
