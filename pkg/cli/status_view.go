package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// Status is the fleet in one screen.
type Status struct {
	At         metav1.Time      `json:"at"`
	Summary    Summary          `json:"summary"`
	Controller *ControllerState `json:"controller,omitempty"`
	Paused     []Paused         `json:"paused"`
	NodePools  []PoolStatus     `json:"nodePools"`
	Suspects   []SuspectStatus  `json:"suspectDomains"`
	Repairing  []RepairingNode  `json:"repairing"`
	Waiting    []WaitingNode    `json:"waiting"`
	Gaps       []Gap            `json:"gaps,omitempty"`

	// rows bounds each table for people; 0 is no bound.
	rows int
}

// Summary counts nodes, which are NodeClaims. Sick are those with a Fatal finding that can be trusted.
type Summary struct {
	Nodes int `json:"nodes"`
	Sick  int `json:"sick"`
	// Tolerated, Waiting, Repairing and Leaving are the sick by what happens to them: their toleration has not passed;
	// something stands in the way; a NodeRepair is at work; they are deleted by somebody else.
	Tolerated int `json:"tolerated"`
	Waiting   int `json:"waiting"`
	Repairing int `json:"repairing"`
	Leaving   int `json:"leaving"`
	// Shown are those whose policy wants their faults shown and nothing done (action None).
	Shown int `json:"shown"`
	// Repairs at work, those included whose sick node is gone and whose replacement has to prove healthy.
	Repairs int `json:"repairs"`
	// Unwatched nodes have no NodeHealth, so nobody can tell how they are.
	Unwatched int `json:"unwatched"`
	// Foreign nodes are not Karpenter's; they are not repaired.
	Foreign int `json:"foreign"`
}

// PoolStatus is how a NodePool stands. The empty name is that of the NodeClaims without one.
type PoolStatus struct {
	Name      string `json:"name"`
	Nodes     int    `json:"nodes"`
	Sick      int    `json:"sick"`
	Tolerated int    `json:"tolerated"`
	Waiting   int    `json:"waiting"`
	Repairing int    `json:"repairing"`
	Repairs   int    `json:"repairs"`
	// InFlight is how many nodes take up the disruption budget for reason Unhealthy; Limit is how many may, absent where
	// nothing limits them.
	InFlight int    `json:"inFlight"`
	Limit    *int   `json:"limit,omitempty"`
	Problem  string `json:"problem,omitempty"`
	// Policies that govern its NodeClaims.
	Policies []string `json:"policies,omitempty"`
	Paused   bool     `json:"paused,omitempty"`
}

// SuspectStatus is a domain that is repaired by slow start.
type SuspectStatus struct {
	Domain      string       `json:"domain"`
	Nodes       int          `json:"nodes"`
	Sick        int          `json:"sick"`
	Width       int          `json:"width"`
	Repairing   int          `json:"repairing"`
	PausedUntil *metav1.Time `json:"pausedUntil,omitempty"`
}

// RepairingNode is a node that is being repaired.
type RepairingNode struct {
	Node        string          `json:"node,omitempty"`
	NodeClaim   string          `json:"nodeClaim"`
	NodePool    string          `json:"nodePool,omitempty"`
	NodeRepair  string          `json:"nodeRepair"`
	Cause       string          `json:"cause"`
	Subject     string          `json:"subject,omitempty"`
	Action      v1alpha1.Action `json:"action"`
	Phase       v1alpha1.Phase  `json:"phase"`
	Started     metav1.Time     `json:"started"`
	Next        string          `json:"next,omitempty"`
	Replacement string          `json:"replacement,omitempty"`
}

// WaitingNode is a sick node that is not being repaired.
type WaitingNode struct {
	Node      string      `json:"node,omitempty"`
	NodeClaim string      `json:"nodeClaim"`
	NodePool  string      `json:"nodePool,omitempty"`
	Cause     string      `json:"cause"`
	Subject   string      `json:"subject,omitempty"`
	Since     metav1.Time `json:"since"`
	// Faults is how many Fatal findings the node has.
	Faults int `json:"faults"`
	// ToleratedUntil is when the toleration passes; absent where it has, or where no policy acts.
	ToleratedUntil *metav1.Time `json:"toleratedUntil,omitempty"`
	// Blockers are what the controller says stands in the way; empty where it has not said anything yet.
	Blockers []BlockerText `json:"blockers,omitempty"`
}

// BlockerText is one line of the condition autorepair.sh/RepairBlocked.
type BlockerText struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// statusOf reckons the status of a fleet.
func statusOf(ctx context.Context, fleet *Fleet) (*Status, error) {
	in, err := fleet.Input(ctx)
	if err != nil {
		return nil, err
	}
	s := &Status{
		At: metav1.NewTime(fleet.Now), Controller: fleet.Controller, Paused: pausedOf(in, fleet.Policies), Gaps: fleet.Gaps,
		Repairing: []RepairingNode{}, Waiting: []WaitingNode{}, NodePools: []PoolStatus{}, Suspects: []SuspectStatus{},
	}
	survey := decision.SurveyOf(in)
	for _, suspect := range survey.Suspects {
		s.Suspects = append(s.Suspects, SuspectStatus{
			Domain: suspect.Kind + "=" + suspect.Name, Nodes: suspect.Nodes, Sick: suspect.Sick, Width: suspect.Width, Repairing: suspect.Repairing,
			PausedUntil: orNil(suspect.PausedUntil),
		})
	}
	s.countNodes(fleet, in, poolsOf(in, survey))
	return s, nil
}

// poolsOf gives a row for every NodePool.
func poolsOf(in decision.Input, survey decision.Survey) map[string]*PoolStatus {
	pools := map[string]*PoolStatus{}
	for name, pool := range in.NodePools {
		row := &PoolStatus{Name: name, Paused: len(decision.Holding(pool.Pauses, in.Now)) > 0}
		allowance := survey.Allowances[name]
		row.InFlight, row.Problem = allowance.InFlight, allowance.Problem
		row.Limit = limitOf(allowance)
		pools[name] = row
	}
	return pools
}

// limitOf gives the limit of a budget; nil where there is none.
func limitOf(allowance decision.Allowance) *int {
	if allowance.Limit >= math.MaxInt32 {
		return nil
	}
	return new(allowance.Limit)
}

// countNodes sorts the nodes by how they are.
func (s *Status) countNodes(fleet *Fleet, in decision.Input, pools map[string]*PoolStatus) {
	unfinished := map[types.UID]*v1alpha1.NodeRepair{}
	for i := range fleet.Repairs {
		if repair := &fleet.Repairs[i]; !repair.Finished() {
			unfinished[repair.Spec.NodeClaim.UID] = repair
			s.Repairing = append(s.Repairing, repairingNode(repair))
			s.Summary.Repairs++
			poolOf(pools, repair.Spec.NodePool).Repairs++
		}
	}
	watched := map[string]bool{}
	for i := range fleet.Health {
		watched[fleet.Health[i].Name] = true
	}
	claims := map[string]*karpv1.NodeClaim{}
	for i := range fleet.NodeClaims {
		claims[fleet.NodeClaims[i].Name] = &fleet.NodeClaims[i]
	}
	for i := range in.Nodes {
		node := &in.Nodes[i]
		s.count(node, poolOf(pools, node.NodePool), claims[node.NodeClaim], unfinished[node.NodeClaimUID], in.Now)
		if node.NodeName != "" && !watched[node.NodeName] {
			s.Summary.Unwatched++
		}
	}
	for _, machine := range fleet.Machines() {
		if machine.NodeClaim == nil {
			s.Summary.Foreign++
		}
	}
	for _, pool := range pools {
		slices.Sort(pool.Policies)
		s.NodePools = append(s.NodePools, *pool)
	}
	slices.SortFunc(s.NodePools, func(a, b PoolStatus) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Repairing, func(a, b RepairingNode) int {
		return cmp.Or(a.Started.Compare(b.Started.Time), cmp.Compare(a.NodeRepair, b.NodeRepair))
	})
	slices.SortFunc(s.Waiting, func(a, b WaitingNode) int {
		return cmp.Or(a.Since.Compare(b.Since.Time), cmp.Compare(a.NodeClaim, b.NodeClaim))
	})
}

// poolOf gives the row of a NodePool, which may be gone.
func poolOf(pools map[string]*PoolStatus, name string) *PoolStatus {
	pool, ok := pools[name]
	if !ok {
		pool = &PoolStatus{Name: name}
		pools[name] = pool
	}
	return pool
}

// count counts one node.
func (s *Status) count(node *decision.Node, pool *PoolStatus, claim *karpv1.NodeClaim, repair *v1alpha1.NodeRepair, now time.Time) {
	s.Summary.Nodes++
	pool.Nodes++
	if policy := node.Verdict.Policy; policy != nil && !slices.Contains(pool.Policies, policy.Name) {
		pool.Policies = append(pool.Policies, policy.Name)
	}
	if len(node.Verdict.Judgements) == 0 {
		return
	}
	s.Summary.Sick++
	pool.Sick++
	switch deciding := node.Verdict.Deciding; {
	case repair != nil:
		s.Summary.Repairing++
		pool.Repairing++
	case node.Deleting:
		s.Summary.Leaving++
	case deciding != nil && !deciding.Eligible(now):
		s.Summary.Tolerated++
		pool.Tolerated++
		s.Waiting = append(s.Waiting, waitingNode(node, claim))
		s.Waiting[len(s.Waiting)-1].ToleratedUntil = orNil(deciding.EligibleAt)
	case deciding == nil && !slices.ContainsFunc(node.Verdict.Judgements, func(j diagnosis.Judgement) bool { return j.Rule == "" }):
		s.Summary.Shown++
	default:
		s.Summary.Waiting++
		pool.Waiting++
		s.Waiting = append(s.Waiting, waitingNode(node, claim))
	}
}

func waitingNode(node *decision.Node, claim *karpv1.NodeClaim) WaitingNode {
	finding := node.Verdict.Judgements[0].Finding
	if node.Verdict.Deciding != nil {
		finding = node.Verdict.Deciding.Finding
	}
	return WaitingNode{
		Node: node.NodeName, NodeClaim: node.NodeClaim, NodePool: node.NodePool, Cause: finding.Reason, Subject: finding.Subject,
		Since: finding.Since, Faults: len(node.Verdict.Judgements), Blockers: blockersOf(claim),
	}
}

// blockersOf reads what the controller has written on the NodeClaim: one blocker on each line, as pkg/explain writes
// them.
func blockersOf(claim *karpv1.NodeClaim) []BlockerText {
	if claim == nil {
		return nil
	}
	var out []BlockerText
	for _, condition := range claim.Status.Conditions {
		if condition.Type != v1alpha1.ConditionRepairBlocked || condition.Status != metav1.ConditionTrue {
			continue
		}
		for line := range strings.Lines(condition.Message) {
			reason, message, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			out = append(out, BlockerText{Reason: reason, Message: message})
		}
	}
	return out
}

func repairingNode(repair *v1alpha1.NodeRepair) RepairingNode {
	out := RepairingNode{
		Node: repair.Spec.NodeName, NodeClaim: repair.Spec.NodeClaim.Name, NodePool: repair.Spec.NodePool, NodeRepair: repair.Name,
		Cause: repair.Spec.Cause.Reason, Subject: repair.Spec.Cause.Subject, Action: repair.Spec.Action,
		Phase: cmp.Or(repair.Status.Phase, v1alpha1.PhaseCommitted), Started: repair.CreationTimestamp, Next: repair.Status.Message,
	}
	if n := len(repair.Status.Replacements); n > 0 {
		out.Replacement = repair.Status.Replacements[n-1].NodeClaim
	}
	return out
}

// orNil gives a time for JSON, which leaves out what is nil.
func orNil(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return new(metav1.NewTime(t))
}

// plural writes a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
