package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Condition types of a NodeRepair, in the order in which they become True.
const (
	// RepairConditionFenced is True once the node takes no new pods and Karpenter's other methods leave it alone.
	RepairConditionFenced = "Fenced"
	// RepairConditionProvisioned is True once every replacement is Initialized, or none is needed.
	RepairConditionProvisioned = "Provisioned"
	// RepairConditionTerminated is True once the sick node is gone (False with reason Draining from the delete on).
	RepairConditionTerminated = "Terminated"
	// RepairConditionRebooted stands in the place of Provisioned and Terminated when the action is Reboot. It is there
	// from the moment when Karpenter is asked for the reboot, and True once the boot ID of the Node is another than in
	// status.evidence.nodeInfo.
	RepairConditionRebooted = "Rebooted"
	// RepairConditionReleased is True once the replacement's protection is lifted.
	RepairConditionReleased = "Released"
	// RepairConditionVerified is True once the replacement has stayed healthy for verifyFor.
	RepairConditionVerified = "Verified"
	// RepairConditionSucceeded is the root: Unknown while at work, then True or False for ever.
	RepairConditionSucceeded = "Succeeded"
)

// Reasons of RepairConditionVerified.
const (
	// VerifiedHealthy: the replacement, or the rebooted node, has been free of Fatal findings for verifyFor.
	VerifiedHealthy = "Healthy"
	// VerifiedNotNeeded: the node is gone, and nothing had to take its place, so nothing was proved.
	VerifiedNotNeeded = "NotNeeded"
	// VerifiedReplacementGone: the replacement left before it had been watched long enough, so nothing was proved.
	VerifiedReplacementGone = "ReplacementGone"
	// VerifiedReplacementSick: the replacement turned out sick too, of something else.
	VerifiedReplacementSick = "ReplacementSick"
	// VerifiedCauseReturned: a replacement showed the cause of the repair again, so the node was not what is broken. It
	// stands until a later replacement of the same repair proves healthy.
	VerifiedCauseReturned = "CauseReturned"
)

// Phase of a NodeRepair, derived from its conditions.
// +kubebuilder:validation:Enum=Committed;Fencing;Provisioning;Waiting;Terminating;Rebooting;Releasing;Verifying;LettingGo;Succeeded;Failed;Canceled;Yielded
type Phase string

const (
	PhaseCommitted    Phase = "Committed"
	PhaseFencing      Phase = "Fencing"
	PhaseProvisioning Phase = "Provisioning"
	PhaseWaiting      Phase = "Waiting"
	PhaseTerminating  Phase = "Terminating"
	PhaseRebooting    Phase = "Rebooting"
	PhaseReleasing    Phase = "Releasing"
	PhaseVerifying    Phase = "Verifying"
	// PhaseLettingGo undoes the fence and withdraws replacements on the way to Canceled, Failed or Yielded.
	PhaseLettingGo Phase = "LettingGo"
	// PhaseSucceeded, PhaseFailed, PhaseCanceled and PhaseYielded are final.
	PhaseSucceeded Phase = "Succeeded"
	PhaseFailed    Phase = "Failed"
	// PhaseCanceled: the node recovered, or a person stopped the repair, before the delete.
	PhaseCanceled Phase = "Canceled"
	// PhaseYielded: Karpenter or a person took the node first.
	PhaseYielded Phase = "Yielded"
)

// Finished says whether the phase is final.
func (p Phase) Finished() bool {
	switch p {
	case PhaseSucceeded, PhaseFailed, PhaseCanceled, PhaseYielded:
		return true
	default:
		return false
	}
}

// NodeClaimReference names one NodeClaim, never a later one of the same name.
type NodeClaimReference struct {
	// name of the NodeClaim.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// uid of the NodeClaim.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	UID types.UID `json:"uid"`
}

// RepairCause is the finding that led to the repair.
type RepairCause struct {
	// reason of the finding, for example InterfaceNotUp.
	// +kubebuilder:validation:MaxLength=128
	// +required
	Reason string `json:"reason"`

	// category of the finding.
	// +required
	Category Category `json:"category"`

	// subject of the finding: an interface, a device, a pod. Empty where the node itself is meant.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Subject string `json:"subject,omitempty"`

	// source that stated the finding.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Source string `json:"source,omitempty"`

	// message of the finding, at the time of the decision.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// since is when the fault began.
	// +required
	Since metav1.Time `json:"since"`
}

// PolicyReference names the policy and rule that decided.
type PolicyReference struct {
	// name of the RepairPolicy.
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// rule is the name of the rule that matched.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Rule string `json:"rule"`
}

// NodeRepairSpec says what is repaired, why and how. It never changes.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a NodeRepair never changes: to stop a repair create a RepairPause, pause its RepairPolicy or annotate the Node with karpenter.sh/do-not-repair=true; to repair again annotate the Node with autorepair.sh/repair=Replace"
type NodeRepairSpec struct {
	// nodeClaim that is repaired.
	// +required
	NodeClaim NodeClaimReference `json:"nodeClaim"`

	// nodeName is the Node of the NodeClaim.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	NodeName string `json:"nodeName,omitempty"`

	// nodePool that the NodeClaim belongs to. Empty for a NodeClaim without one.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	NodePool string `json:"nodePool,omitempty"`

	// action is Replace or Reboot.
	// +kubebuilder:validation:XValidation:rule="self != 'None'",message="action must be Replace or Reboot: a NodeRepair that does nothing is not made"
	// +required
	Action Action `json:"action"`

	// terminateFirst removes the node before a replacement stands; Karpenter refills its place.
	// +optional
	TerminateFirst bool `json:"terminateFirst,omitempty"`

	// cause is the finding that led to the repair.
	// +required
	Cause RepairCause `json:"cause"`

	// policy that decided, and its rule.
	// +required
	Policy PolicyReference `json:"policy"`

	// drainBound as in RepairRule, at the time of the decision.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(\\\\.[0-9]{1,9})?(ms|s|m|h))+$') && duration(self) >= duration('1s')",message="drainBound must be a duration of at least 1s: write for example \"30m\"; to honour PodDisruptionBudgets without end leave drainBound out"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +optional
	DrainBound *metav1.Duration `json:"drainBound,omitempty"`

	// replacement as in RepairPolicy, at the time of the decision.
	// +kubebuilder:default={}
	// +optional
	Replacement ReplacementSpec `json:"replacement,omitempty"`

	// replacements is how many replacement NodeClaims are wanted: 0 for a node without reschedulable pods, else 1. With
	// terminateFirst it is Karpenter that makes them.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1
	// +required
	Replacements int32 `json:"replacements"`
}

// ReplacementStatus is one replacement NodeClaim of the repair, past ones included.
type ReplacementStatus struct {
	// nodeClaim is the name of the replacement.
	// +kubebuilder:validation:MaxLength=253
	// +required
	NodeClaim string `json:"nodeClaim"`

	// attempt counts from 1.
	// +required
	Attempt int32 `json:"attempt"`

	// nodeName is the Node registered from it.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	NodeName string `json:"nodeName,omitempty"`

	// createdAt is when the NodeClaim was made.
	// +optional
	CreatedAt *metav1.Time `json:"createdAt,omitempty"`

	// launchedAt is when its instance was launched.
	// +optional
	LaunchedAt *metav1.Time `json:"launchedAt,omitempty"`

	// initializedAt is when its Node became ready for use.
	// +optional
	InitializedAt *metav1.Time `json:"initializedAt,omitempty"`

	// withdrawnAt is set once the replacement has been given up; message says why.
	// +optional
	WithdrawnAt *metav1.Time `json:"withdrawnAt,omitempty"`

	// message says why the replacement was withdrawn.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// RepairEvidence keeps what was known about the sick node, since it will be gone.
type RepairEvidence struct {
	// findings that held when the repair began.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Findings []Finding `json:"findings,omitempty"`

	// nodeConditions of the Node when the repair began.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +optional
	NodeConditions []corev1.NodeCondition `json:"nodeConditions,omitempty"`

	// nodeInfo of the Node: kernel, kubelet, container runtime.
	// +optional
	NodeInfo *corev1.NodeSystemInfo `json:"nodeInfo,omitempty"`

	// labels of the Node.
	// +kubebuilder:validation:MaxProperties=128
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// pods that the node ran, as namespace/name.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=317
	// +optional
	Pods []string `json:"pods,omitempty"`

	// reschedulablePods is how many of all its pods had to move.
	// +optional
	ReschedulablePods int32 `json:"reschedulablePods,omitempty"`

	// events of the node, newest last, one line each.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=512
	// +optional
	Events []string `json:"events,omitempty"`
}

// NodeRepairStatus is how far the repair has come.
type NodeRepairStatus struct {
	// phase sums up the conditions: how far the repair is.
	// +optional
	Phase Phase `json:"phase,omitempty"`

	// message says in words what happens next, or why it ended.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// outcome is where LettingGo leads: Canceled, Failed or Yielded.
	// +optional
	Outcome Phase `json:"outcome,omitempty"`

	// conditions are Fenced, Provisioned, Terminated or Rebooted, Released, Verified, Succeeded.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// replacements made for the repair, in order, withdrawn ones included.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	// +optional
	Replacements []ReplacementStatus `json:"replacements,omitempty"`

	// nextAttemptAt is when the next replacement is tried.
	// +optional
	NextAttemptAt *metav1.Time `json:"nextAttemptAt,omitempty"`

	// evidence keeps what was known about the sick node.
	// +optional
	Evidence *RepairEvidence `json:"evidence,omitempty"`

	// domains that the node belonged to, as kind=name: nodepool, zone, instance-type, image.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=317
	// +optional
	Domains []string `json:"domains,omitempty"`

	// finishedAt is when the phase became final.
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
}

// NodeRepair is one attempt to repair one NodeClaim. It outlives the NodeClaim and is kept as history.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nr,categories=autorepair
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="Cause",type=string,JSONPath=`.spec.cause.reason`
// +kubebuilder:printcolumn:name="Subject",type=string,priority=1,JSONPath=`.spec.cause.subject`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.spec.cause.since`
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.action`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Next",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Replacement",type=string,priority=1,JSONPath=`.status.replacements[-1:].nodeClaim`
// +kubebuilder:printcolumn:name="NodeClaim",type=string,priority=1,JSONPath=`.spec.nodeClaim.name`
// +kubebuilder:printcolumn:name="NodePool",type=string,priority=1,JSONPath=`.spec.nodePool`
// +kubebuilder:printcolumn:name="Policy",type=string,priority=1,JSONPath=`.spec.policy.name`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeRepair struct {
	metav1.TypeMeta `json:",inline"`

	// metadata of the object; the name is made by the controller.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is repaired, why and how.
	// +required
	Spec NodeRepairSpec `json:"spec"`

	// status says how far the repair has come.
	// +optional
	Status NodeRepairStatus `json:"status,omitempty"`
}

// NodeRepairList is a list of NodeRepairs.
// +kubebuilder:object:root=true
type NodeRepairList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeRepair `json:"items"`
}

// CanBeLetGo says whether the repair has neither ended nor deleted or rebooted its node yet, so that it can be taken back.
func (in *NodeRepair) CanBeLetGo() bool {
	switch in.Status.Phase {
	case PhaseTerminating, PhaseRebooting, PhaseReleasing, PhaseVerifying:
		return false
	default:
		return !in.Finished()
	}
}

// WithdrawnSince gives the replacements that have been withdrawn since the NodeRepair was as before, in their order.
func (in *NodeRepair) WithdrawnSince(before *NodeRepair) []ReplacementStatus {
	var out []ReplacementStatus
	for i := range in.Status.Replacements {
		was := i < len(before.Status.Replacements) && before.Status.Replacements[i].WithdrawnAt != nil
		if in.Status.Replacements[i].WithdrawnAt != nil && !was {
			out = append(out, in.Status.Replacements[i])
		}
	}
	return out
}

// Finished says whether the repair has ended.
func (in *NodeRepair) Finished() bool { return in.Status.Phase.Finished() }

// CauseReturned says whether a replacement has shown the cause of the repair again, and none after it has proved healthy:
// the repair was no help, since the node was not what is broken.
func (in *NodeRepair) CauseReturned() bool {
	for i := range in.Status.Conditions {
		if c := &in.Status.Conditions[i]; c.Type == RepairConditionVerified {
			return c.Status == metav1.ConditionFalse && c.Reason == VerifiedCauseReturned
		}
	}
	return false
}

// HoldsBudget says whether the repair counts against its NodePool's disruption budget: from its creation until
// the sick node is gone, or the repair has ended otherwise. One that terminates first holds it until Karpenter has
// refilled the node's place: until then the NodePool lacks a node.
func (in *NodeRepair) HoldsBudget() bool {
	if in.Finished() {
		return false
	}
	switch in.Status.Phase {
	case PhaseReleasing:
		return in.Spec.TerminateFirst
	case PhaseVerifying:
		return false
	default:
		return true
	}
}
