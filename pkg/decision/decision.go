// Package decision says which sick nodes are repaired now, and what stands in the way of the others. It is pure:
// values and now go in, values come out. Every gate is evaluated for every sick node.
package decision

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// BlockerReason names a gate that is closed.
type BlockerReason string

// The gates, in the order in which people see them.
const (
	BlockerTolerating        BlockerReason = "Tolerating"        // the finding's toleration has not passed
	BlockerNoPolicy          BlockerReason = "NoPolicy"          // no policy selects the NodeClaim, or no rule matches
	BlockerPolicyConflict    BlockerReason = "PolicyConflict"    // several policies of equal weight select it
	BlockerPolicyInvalid     BlockerReason = "PolicyInvalid"     // the policy cannot be used as written
	BlockerPaused            BlockerReason = "Paused"            // the policy is Paused
	BlockerAllPaused         BlockerReason = "AllPaused"         // a RepairPause stops all repairs
	BlockerZonePaused        BlockerReason = "ZonePaused"        // a RepairPause stops the repairs in the node's zone
	BlockerNodePoolPaused    BlockerReason = "NodePoolPaused"    // autorepair.sh/pause on the NodePool
	BlockerDryRun            BlockerReason = "DryRun"            // the policy is DryRun
	BlockerVeto              BlockerReason = "Vetoed"            // karpenter.sh/do-not-repair on the Node
	BlockerNoNode            BlockerReason = "NodeNotRegistered" // Karpenter's registration timeout owns it
	BlockerStandalone        BlockerReason = "Standalone"        // the NodeClaim has no NodePool
	BlockerNodePoolMissing   BlockerReason = "NodePoolNotFound"
	BlockerNodePoolNotReady  BlockerReason = "NodePoolNotReady"
	BlockerNodePoolStatic    BlockerReason = "NodePoolStatic"
	BlockerNodePoolLimits    BlockerReason = "NodePoolLimits"
	BlockerBudget            BlockerReason = "DisruptionBudget"        // nothing left of the budget
	BlockerBudgetInvalid     BlockerReason = "DisruptionBudgetInvalid" // a budget cannot be read
	BlockerPods              BlockerReason = "PodsNotDisruptable"      // PDB or do-not-disrupt without a drain bound
	BlockerCorrelated        BlockerReason = "CorrelatedFailure"       // a domain is suspect and its width is used up
	BlockerBackoff           BlockerReason = "Backoff"                 // earlier repairs of the pool failed lately
	BlockerLaunching         BlockerReason = "LaunchLimit"             // too many unlaunched replacements
	BlockerKarpenterActing   BlockerReason = "KarpenterActing"         // Karpenter itself is disrupting the node
	BlockerOtherRepairer     BlockerReason = "OtherRepairer"           // Karpenter's own repair cannot be kept off
	BlockerRepairInProgress  BlockerReason = "RepairInProgress"        // a NodeRepair is already at work on it
	BlockerUnreadable        BlockerReason = "Unreadable"              // something that a gate needs could not be read
	BlockerReplacementFailed BlockerReason = "ReplacementFailed"       // attempts are used up
	BlockerUnschedulable     BlockerReason = "Unschedulable"           // the planner finds no place for its pods
	BlockerRecovered         BlockerReason = "Recovered"               // only of Recheck: nothing is left to repair
)

// Blocker is one closed gate.
type Blocker struct {
	Reason BlockerReason
	// Message is one sentence; it holds no relative times, so it changes only when the matter does.
	Message string
	// RetryAt is when to look again without being told; zero where only a change elsewhere can lift it.
	RetryAt time.Time
	// LiftedBy says who can lift it, as an instruction. Empty where only time or Karpenter can.
	LiftedBy string
}

// Node is one NodeClaim of Karpenter's, sick or not.
type Node struct {
	NodeClaim    string
	NodeClaimUID types.UID
	NodeName     string // empty before registration
	NodePool     string // empty for a standalone NodeClaim
	Zone         string
	InstanceType string
	Image        string
	// CapacityType as Karpenter labels it: on-demand, spot or reserved; empty where it is not known.
	CapacityType string

	Initialized bool
	// Deleting: the NodeClaim has a deletion timestamp or the instance is terminating.
	Deleting bool
	// Terminated: InstanceTerminating is True; it counts neither towards a pool's size nor its disruptions.
	Terminated bool
	// Rebooting: Karpenter's Rebooting condition is True.
	Rebooting bool
	// ProviderReboots: the provider of the NodeClaim's node class is known to reboot instances in place. Karpenter
	// itself cannot be asked, and ends a NodeClaim whose provider cannot.
	ProviderReboots bool
	// Reboots are when those were asked for that no NodeRepair tells of, which is so inside Karpenter.
	Reboots []time.Time
	// SettlesUntil is how long what was found before the latest reboot may stand; zero where there was none.
	SettlesUntil time.Time
	// KarpenterDisrupting: the taint karpenter.sh/disrupted, or DisruptionReason True, without a deletion yet.
	KarpenterDisrupting bool

	// Verdict of the diagnosis; its Judgements are empty for a node that is not sick.
	Verdict diagnosis.Verdict
	// Requested: a person asked for the repair, so toleration does not apply.
	Requested bool
	// Vetoes of this node, those that have ended included.
	Vetoes []Stop
	// PodBlockers say, one sentence each, which pods may not be disrupted now. Only gathered for sick nodes.
	PodBlockers []string
	// TerminationGracePeriod of the NodeClaim itself, which bounds its drain as a rule's drainBound does.
	TerminationGracePeriod *time.Duration
	// DisruptionCost as Karpenter reckons it; lower goes first among equals.
	DisruptionCost float64
	// Capacity of the node, which its replacement is expected to need beside it.
	Capacity corev1.ResourceList
	// ReschedulablePods that have to move.
	ReschedulablePods int
	// Unreadable says what could not be read about this node; it closes a gate.
	Unreadable []string
}

// NodePool is a NodePool of Karpenter's.
type NodePool struct {
	Object *karpv1.NodePool
	// Pauses of the NodePool, those that have ended included.
	Pauses []Stop
	// Unreadable says what could not be read; it closes a gate.
	Unreadable []string
}

// Karpenter is what is known about the Karpenter that runs beside us.
type Karpenter struct {
	// Version as "1.15.0"; empty where it could not be found out.
	Version string
	// OwnRepair: its NodeRepair gate is on.
	OwnRepair bool
	// HonoursDoNotRepair: it leaves nodes with karpenter.sh/do-not-repair alone (from 1.15).
	HonoursDoNotRepair bool
	// RebootSupported: it has the Rebooting lifecycle (from 1.15).
	RebootSupported bool
}

// Input is everything that a decision rests on.
type Input struct {
	Now time.Time
	// Pauses of all repairs, or of those in some zones; those that have ended included.
	Pauses    []Stop
	Nodes     []Node
	NodePools map[string]NodePool
	// Repairs, finished and unfinished, that are still kept.
	Repairs   []v1alpha1.NodeRepair
	Karpenter Karpenter
	// Budgets, where the caller has reckoned them already (inside Karpenter): repairs that each NodePool still
	// admits. nil: they are reckoned from NodePools, Nodes and Repairs.
	Budgets map[string]int
	// Launching is how many of our replacements are unlaunched.
	Launching int
	// ExecutorReboots: whoever carries the decision out can reboot. Where it cannot, Replace stands in.
	ExecutorReboots bool
}

// Decision is what is decided about one sick node.
type Decision struct {
	Node Node
	// Admitted: repair it now. Then Blockers is empty.
	Admitted bool
	// Action, TerminateFirst and DrainBound of the repair, where admitted or only held back.
	Action         v1alpha1.Action
	TerminateFirst bool
	DrainBound     *time.Duration
	// Note explains a choice that differs from the rule's, for example why Replace stands in for Reboot.
	Note string
	// Blockers, every one, in the order of the gates.
	Blockers []Blocker
	// Score orders: priority + age past eligibility / 30 min - repairs that failed within a day.
	Score float64
}

// Result holds a Decision for every sick node: the admitted first, in the order in which they start, then the
// others by descending score.
type Result struct {
	Decisions []Decision
	// NextChange is the earliest moment at which a blocker asks to be looked at again; zero where none does.
	NextChange time.Time
	// Suspects are the suspect domains after the pass, by kind and name.
	Suspects []Suspect
}
