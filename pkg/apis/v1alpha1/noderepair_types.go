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
	// RepairConditionRebooted stands in the place of Provisioned and Terminated when the action is Reboot.
	RepairConditionRebooted = "Rebooted"
	// RepairConditionReleased is True once the replacement's protection is lifted.
	RepairConditionReleased = "Released"
	// RepairConditionVerified is True once the replacement has stayed healthy for verifyFor.
	RepairConditionVerified = "Verified"
	// RepairConditionSucceeded is the root: Unknown while at work, then True or False for ever.
	RepairConditionSucceeded = "Succeeded"
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
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	UID types.UID `json:"uid"`
}

// RepairCause is the finding that led to the repair.
type RepairCause struct {
	// +kubebuilder:validation:MaxLength=128
	// +required
	Reason string `json:"reason"`
	// +required
	Category Category `json:"category"`
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Subject string `json:"subject,omitempty"`
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Source string `json:"source,omitempty"`
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
	// since is when the fault began.
	// +required
	Since metav1.Time `json:"since"`
}

// PolicyReference names the policy and rule that decided.
type PolicyReference struct {
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
	// +kubebuilder:validation:MaxLength=63
	// +required
	Rule string `json:"rule"`
}

// NodeRepairSpec says what is repaired, why and how. It never changes.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a NodeRepair never changes: to stop a repair pause its RepairPolicy or annotate the Node with karpenter.sh/do-not-repair=true; to repair again annotate the Node with autorepair.sh/repair=Replace"
type NodeRepairSpec struct {
	// +required
	NodeClaim NodeClaimReference `json:"nodeClaim"`
	// +kubebuilder:validation:MaxLength=253
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// +kubebuilder:validation:MaxLength=253
	// +optional
	NodePool string `json:"nodePool,omitempty"`
	// action is Replace or Reboot.
	// +kubebuilder:validation:XValidation:rule="self != 'None'",message="action must be Replace or Reboot"
	// +required
	Action Action `json:"action"`
	// terminateFirst removes the node before a replacement stands.
	// +optional
	TerminateFirst bool `json:"terminateFirst,omitempty"`
	// +required
	Cause RepairCause `json:"cause"`
	// +required
	Policy PolicyReference `json:"policy"`
	// drainBound as in RepairRule, at the time of the decision.
	// +kubebuilder:validation:Type=string
	// +optional
	DrainBound *metav1.Duration `json:"drainBound,omitempty"`
	// replacement as in RepairPolicy, at the time of the decision.
	// +kubebuilder:default={}
	// +optional
	Replacement ReplacementSpec `json:"replacement,omitempty"`
	// replacements is how many replacement NodeClaims are wanted: 0 for a node without reschedulable pods, else 1.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1
	// +required
	Replacements int32 `json:"replacements"`
}

// ReplacementStatus is one replacement NodeClaim of the repair, past ones included.
type ReplacementStatus struct {
	// +kubebuilder:validation:MaxLength=253
	// +required
	NodeClaim string `json:"nodeClaim"`
	// attempt counts from 1.
	// +required
	Attempt int32 `json:"attempt"`
	// +kubebuilder:validation:MaxLength=253
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// +optional
	CreatedAt *metav1.Time `json:"createdAt,omitempty"`
	// +optional
	LaunchedAt *metav1.Time `json:"launchedAt,omitempty"`
	// +optional
	InitializedAt *metav1.Time `json:"initializedAt,omitempty"`
	// withdrawnAt is set once the replacement has been given up; message says why.
	// +optional
	WithdrawnAt *metav1.Time `json:"withdrawnAt,omitempty"`
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// RepairEvidence keeps what was known about the sick node, since it will be gone.
type RepairEvidence struct {
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Findings []Finding `json:"findings,omitempty"`
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +optional
	NodeConditions []corev1.NodeCondition `json:"nodeConditions,omitempty"`
	// +optional
	NodeInfo *corev1.NodeSystemInfo `json:"nodeInfo,omitempty"`
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
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// message says in words what happens next, or why it ended.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
	// outcome is where LettingGo leads: Canceled, Failed or Yielded.
	// +optional
	Outcome Phase `json:"outcome,omitempty"`
	// conditions: Fenced, Provisioned, Terminated or Rebooted, Released, Verified, Succeeded.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	// +optional
	Replacements []ReplacementStatus `json:"replacements,omitempty"`
	// nextAttemptAt is when the next replacement is tried.
	// +optional
	NextAttemptAt *metav1.Time `json:"nextAttemptAt,omitempty"`
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
// +kubebuilder:printcolumn:name="NodeClaim",type=string,JSONPath=`.spec.nodeClaim.name`
// +kubebuilder:printcolumn:name="NodePool",type=string,JSONPath=`.spec.nodePool`
// +kubebuilder:printcolumn:name="Cause",type=string,JSONPath=`.spec.cause.reason`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.spec.cause.since`
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.action`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Replacement",type=string,JSONPath=`.status.replacements[-1:].nodeClaim`
// +kubebuilder:printcolumn:name="Next",type=string,priority=1,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeRepair struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec NodeRepairSpec `json:"spec"`
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

// Finished says whether the repair has ended.
func (in *NodeRepair) Finished() bool { return in.Status.Phase.Finished() }

// HoldsBudget says whether the repair counts against its NodePool's disruption budget: from its creation until
// the sick node is gone, or the repair has ended otherwise.
func (in *NodeRepair) HoldsBudget() bool {
	if in.Finished() {
		return false
	}
	switch in.Status.Phase {
	case PhaseReleasing, PhaseVerifying:
		return false
	default:
		return true
	}
}
