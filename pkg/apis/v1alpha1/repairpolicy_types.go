package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Action is what is done about a fault.
// +kubebuilder:validation:Enum=Replace;Reboot;None
type Action string

const (
	// ActionReplace puts a new node in the place of the sick one.
	ActionReplace Action = "Replace"
	// ActionReboot restarts the instance in place, by Karpenter's own lifecycle, where Karpenter (from 1.15) and the
	// provider of the node class can; else it is Replace.
	ActionReboot Action = "Reboot"
	// ActionNone shows the fault and does nothing.
	ActionNone Action = "None"
)

// Mode says how far a policy goes.
// +kubebuilder:validation:Enum=Enforce;DryRun;Paused
type Mode string

const (
	// ModeEnforce repairs.
	ModeEnforce Mode = "Enforce"
	// ModeDryRun says on the NodeClaim what would be done, and does not do it.
	ModeDryRun Mode = "DryRun"
	// ModePaused starts nothing, and lets go what has been fenced but not yet terminated. With pausedUntil it is
	// Enforce again from then on.
	ModePaused Mode = "Paused"
)

// Strategy is the order of replacement and removal.
// +kubebuilder:validation:Enum=ReplaceFirst;TerminateFirstWhereNeeded
type Strategy string

const (
	// StrategyReplaceFirst removes a node only once its replacement is Initialized.
	StrategyReplaceFirst Strategy = "ReplaceFirst"
	// StrategyTerminateFirstWhereNeeded removes the node first where no replacement can stand beside it: static
	// NodePools, NodePools at their limits, nodes of reserved capacity whose NodePool takes no other, and NodeClaims
	// without a NodePool. That a replacement failed to launch is no such need.
	StrategyTerminateFirstWhereNeeded Strategy = "TerminateFirstWhereNeeded"
)

// FindingMatch selects findings. Fields that are set must all match; a list matches with any of its entries.
// +kubebuilder:validation:XValidation:rule="has(self.reasons) || has(self.categories) || has(self.sources) || has(self.reasonPattern)",message="match selects nothing: set at least one of reasons, categories, sources or reasonPattern (to match every Fatal finding write reasonPattern: \".*\")"
// +kubebuilder:validation:XValidation:rule="!has(self.reasons) || self.reasons.all(r, r.matches('^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$'))",message="reasons are whole names of one word: write for example reasons: [InterfaceNotUp], or use reasonPattern for an expression such as \"NvidiaXID(48|79)Error\""
type FindingMatch struct {
	// reasons by name, for example InterfaceNotUp.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=128
	// +kubebuilder:validation:items:MinLength=1
	// +listType=set
	// +optional
	Reasons []string `json:"reasons,omitempty"`

	// categories of findings, for example Networking.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=set
	// +optional
	Categories []Category `json:"categories,omitempty"`

	// sources by name, for example node-conditions.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:MinLength=1
	// +listType=set
	// +optional
	Sources []string `json:"sources,omitempty"`

	// reasonPattern is a regular expression (RE2) that the whole reason must match. One that does not compile is
	// refused by an error in the rule below, since both ways out of it are true.
	// +kubebuilder:validation:XValidation:rule="''.matches(self) ? true : true",message="reasonPattern must be a regular expression in RE2 syntax: write for example \"NvidiaXID(48|79)Error\""
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +optional
	ReasonPattern string `json:"reasonPattern,omitempty"`
}

// RepairRule says what to do about the findings that it matches. Only Fatal findings are matched.
// match and tolerate are needed; a rule of its own says so, because it can say what to write.
// +kubebuilder:validation:XValidation:rule="has(self.match)",message="match is missing: say which findings the rule is for, for example match: {categories: [Networking]}"
// +kubebuilder:validation:XValidation:rule="has(self.tolerate)",message="tolerate is missing: write how long a finding may stand before the node counts as unhealthy, for example tolerate: 10m"
type RepairRule struct {
	// name of the rule, unique in the policy; it is what people see on the NodeClaim.
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="name must be made of lowercase letters, digits and dashes, and begin and end with a letter or digit: write for example gpu-faults"
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`

	// match selects findings.
	// +optional
	Match FindingMatch `json:"match"`

	// tolerate is how long a finding may stand before the node counts as unhealthy. It is counted from the start
	// of each finding; another finding does not move it.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(\\\\.[0-9]{1,9})?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('168h')",message="tolerate must be a duration between 1s and 168h: write for example \"10m\"; to act at once write \"1s\", to never act use action: None"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Tolerate metav1.Duration `json:"tolerate"`

	// action to take.
	// +kubebuilder:default=Replace
	// +optional
	Action Action `json:"action,omitempty"`

	// drainBound is the longest that pods may hold up the node's end, counted from the delete. Until then
	// PodDisruptionBudgets and karpenter.sh/do-not-disrupt on pods are honoured. Absent: they are honoured without
	// end, and a node that they block is not repaired.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(\\\\.[0-9]{1,9})?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('168h')",message="drainBound must be a duration between 1s and 168h: write for example \"30m\"; to honour PodDisruptionBudgets without end leave drainBound out"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +optional
	DrainBound *metav1.Duration `json:"drainBound,omitempty"`

	// priority orders repairs where the budget does not admit all; higher goes first. Waiting for 30 minutes
	// outweighs one point.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=0
	// +optional
	Priority int32 `json:"priority,omitempty"`
}

// RebootSpec bounds reboots.
type RebootSpec struct {
	// attempts within the window after which a node is replaced instead. An attempt is one that Karpenter was asked for.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	// +kubebuilder:default=2
	// +optional
	Attempts *int32 `json:"attempts,omitempty"`

	// window in which attempts are counted, per NodeClaim. They are counted in NodeRepairs, which are kept that long.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(\\\\.[0-9]{1,9})?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="window must be a duration between 1m and 720h: write for example \"24h\""
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="24h"
	// +optional
	Window *metav1.Duration `json:"window,omitempty"`
}

// CorrelatedFailureSpec says when a failure of many is taken for a failure of something they share: a NodePool, a
// zone, an instance type or an image. Such a domain is repaired by slow start.
type CorrelatedFailureSpec struct {
	// maxUnhealthy is the share (for example "20%") or number of a domain's nodes above which it is suspect.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^(100|[0-9]{1,2})%$')",message="maxUnhealthy must be a number of nodes (0 or more) or a share from \"0%\" to \"100%\": write for example \"20%\""
	// +kubebuilder:default="20%"
	// +optional
	MaxUnhealthy *intstr.IntOrString `json:"maxUnhealthy,omitempty"`

	// minNodes is the size from which a domain can be suspect at all.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +kubebuilder:default=3
	// +optional
	MinNodes *int32 `json:"minNodes,omitempty"`
}

// ReplacementSpec says how replacements are made and judged.
type ReplacementSpec struct {
	// strategy is ReplaceFirst, or TerminateFirstWhereNeeded.
	// +kubebuilder:default=ReplaceFirst
	// +optional
	Strategy Strategy `json:"strategy,omitempty"`

	// launchTimeout is how long a replacement may stay unlaunched before it is withdrawn. An unlaunched NodeClaim
	// stalls Karpenter for the whole cluster, so this is bounded.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(\\\\.[0-9]{1,9})?(ms|s|m|h))+$') && duration(self) >= duration('10s') && duration(self) <= duration('5m')",message="launchTimeout must be a duration between 10s and 5m: write for example \"90s\""
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="90s"
	// +optional
	LaunchTimeout *metav1.Duration `json:"launchTimeout,omitempty"`

	// initializeTimeout is how long a launched replacement may take to become Initialized.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(\\\\.[0-9]{1,9})?(ms|s|m|h))+$') && duration(self) >= duration('10s') && duration(self) <= duration('2h')",message="initializeTimeout must be a duration between 10s and 2h: write for example \"15m\""
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="15m"
	// +optional
	InitializeTimeout *metav1.Duration `json:"initializeTimeout,omitempty"`

	// verifyFor is how long a replacement must stay free of Fatal findings for the repair to count.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(\\\\.[0-9]{1,9})?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="verifyFor must be a duration between 1s and 24h: write for example \"5m\""
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:default="5m"
	// +optional
	VerifyFor *metav1.Duration `json:"verifyFor,omitempty"`

	// attempts is how often replacing a node is tried. One repair makes so many replacements, each wider than the
	// last (in kind; any instance type; any capacity type; any zone), while they do not launch, are not Initialized in
	// time, or come up sick. And after so many failed repairs of a node, and of the nodes that it took the place of,
	// within 24 hours, no other is started: RepairBlocked says ReplacementFailed, and it is left to a person.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	// +kubebuilder:default=3
	// +optional
	Attempts *int32 `json:"attempts,omitempty"`

	// maxLaunching is how many replacements of all repairs may be unlaunched at the same time.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=5
	// +optional
	MaxLaunching *int32 `json:"maxLaunching,omitempty"`
}

// RepairPolicySpec says which nodes are repaired, for what, how and how fast.
// +kubebuilder:validation:XValidation:rule="has(self.rules) && size(self.rules) > 0",message="rules is empty: write at least one, for example {name: all, match: {reasonPattern: \".*\"}, tolerate: 30m}"
// +kubebuilder:validation:XValidation:rule="!has(self.pausedUntil) || (has(self.mode) && self.mode == 'Paused')",message="pausedUntil says until when mode: Paused holds: write mode: Paused beside it, or leave pausedUntil out (kubectl patch: \"pausedUntil\": null)"
type RepairPolicySpec struct {
	// weight decides between policies that select the same NodeClaim; the highest wins. Two policies of equal
	// weight that select the same NodeClaim block each other.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=0
	// +optional
	Weight int32 `json:"weight,omitempty"`

	// mode is Enforce, DryRun or Paused.
	// +kubebuilder:default=Enforce
	// +optional
	Mode Mode `json:"mode,omitempty"`

	// pausedUntil is when mode Paused ends by itself: from then on the mode counts as Enforce. Absent: Paused holds
	// until the mode is changed.
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$')",message="pausedUntil must be a time with its zone: write for example \"2030-01-31T18:00:00Z\""
	// +kubebuilder:validation:MaxLength=40
	// +optional
	PausedUntil string `json:"pausedUntil,omitempty"`

	// nodeClaimSelector selects NodeClaims by label, for example karpenter.sh/nodepool. Absent: all.
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="nodeClaimSelector cannot be read: as operator write In or NotIn with values, or Exists or DoesNotExist without, for example {key: karpenter.sh/nodepool, operator: In, values: [default]}"
	// +optional
	NodeClaimSelector *metav1.LabelSelector `json:"nodeClaimSelector,omitempty"`

	// rules in order; for each finding the first that matches counts. A finding that none matches is not acted on.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=name
	// +optional
	Rules []RepairRule `json:"rules"`

	// reboot bounds reboots.
	// +kubebuilder:default={}
	// +optional
	Reboot RebootSpec `json:"reboot,omitempty"`

	// correlatedFailure says when many sick nodes are taken for one fault.
	// +kubebuilder:default={}
	// +optional
	CorrelatedFailure CorrelatedFailureSpec `json:"correlatedFailure,omitempty"`

	// replacement says how replacements are made and judged.
	// +kubebuilder:default={}
	// +optional
	Replacement ReplacementSpec `json:"replacement,omitempty"`
}

// Condition types of a RepairPolicy.
const (
	// PolicyConditionReady is True when the policy can be used as written; else nothing it selects is repaired.
	PolicyConditionReady = "Ready"
	// PolicyConditionReasonsKnown is False when a rule names a reason that the catalogue does not have.
	PolicyConditionReasonsKnown = "ReasonsKnown"
	// PolicyConditionSelects is False when the policy selects no NodeClaim.
	PolicyConditionSelects = "SelectsNodeClaims"
	// PolicyConditionPaused is True while mode Paused holds, and False once pausedUntil has passed; absent otherwise.
	PolicyConditionPaused = "Paused"
)

// RepairPolicyStatus is what is known about the policy.
type RepairPolicyStatus struct {
	// conditions are Ready, ReasonsKnown, SelectsNodeClaims, and Paused where the mode is.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// nodeClaims is how many NodeClaims the policy governs.
	// +optional
	NodeClaims int32 `json:"nodeClaims"`

	// unhealthy is how many of them have a Fatal finding past its toleration.
	// +optional
	Unhealthy int32 `json:"unhealthy"`
}

// RepairPolicy says which NodeClaims are repaired, for which findings, after how long, and how.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=rp,categories=autorepair
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Paused",type=string,JSONPath=`.status.conditions[?(@.type=="Paused")].status`
// +kubebuilder:printcolumn:name="Until",type=string,priority=1,JSONPath=`.spec.pausedUntil`
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.spec.weight`
// +kubebuilder:printcolumn:name="NodeClaims",type=integer,JSONPath=`.status.nodeClaims`
// +kubebuilder:printcolumn:name="Unhealthy",type=integer,JSONPath=`.status.unhealthy`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RepairPolicy struct {
	metav1.TypeMeta `json:",inline"`

	// metadata of the object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which NodeClaims are repaired, for what and how.
	// +required
	Spec RepairPolicySpec `json:"spec"`

	// status says whether the policy can be used, and what it governs.
	// +optional
	Status RepairPolicyStatus `json:"status,omitempty"`
}

// RepairPolicyList is a list of RepairPolicies.
// +kubebuilder:object:root=true
type RepairPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RepairPolicy `json:"items"`
}
