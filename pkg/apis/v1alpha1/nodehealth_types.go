package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Severity says whether a finding makes its category's condition False.
// +kubebuilder:validation:Enum=Fatal;Warning
type Severity string

const (
	// SeverityFatal makes the category's condition False and may lead to a repair.
	SeverityFatal Severity = "Fatal"
	// SeverityWarning is shown and never makes a condition False.
	SeverityWarning Severity = "Warning"
)

// Category is the part of a node that a finding speaks of. Each but Request has a NodeClaim condition,
// "autorepair.sh/" + Category + "Ready".
// +kubebuilder:validation:Enum=Kernel;Networking;Storage;ContainerRuntime;AcceleratedHardware;Kubelet;Instance;Request
type Category string

const (
	CategoryKernel              Category = "Kernel"
	CategoryNetworking          Category = "Networking"
	CategoryStorage             Category = "Storage"
	CategoryContainerRuntime    Category = "ContainerRuntime"
	CategoryAcceleratedHardware Category = "AcceleratedHardware"
	CategoryKubelet             Category = "Kubelet"
	CategoryInstance            Category = "Instance"
	// CategoryRequest holds what a person asked for; it is no fault and has no condition.
	CategoryRequest Category = "Request"
)

// SourceState says how well a source can see.
// +kubebuilder:validation:Enum=Active;Degraded;Unavailable
type SourceState string

const (
	// SourceActive sees everything that it is there to see.
	SourceActive SourceState = "Active"
	// SourceDegraded has lost something (records, a sample); what it states still holds.
	SourceDegraded SourceState = "Degraded"
	// SourceUnavailable cannot see; its silence means nothing.
	SourceUnavailable SourceState = "Unavailable"
)

// Source is one thing that looks at the node, and whether it can see.
type Source struct {
	// name of the source, for example node-conditions or interfaces.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`

	// state says whether the source can see.
	// +required
	State SourceState `json:"state"`

	// categories that the source can tell about on this node. A category that no source lists has no condition.
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Categories []Category `json:"categories,omitempty"`

	// message says why the source is Degraded or Unavailable.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// lastHeartbeat is when the source last said that it lives. Absent for sources that run in the controller.
	// +optional
	LastHeartbeat *metav1.Time `json:"lastHeartbeat,omitempty"`

	// heartbeatInterval is the time within which the next heartbeat is due; after three of them without one
	// the source is silent, and what it said is Unknown. Absent: the source never falls silent.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(\\\\.[0-9]{1,9})?(ms|s|m|h))+$') && duration(self) >= duration('1s')",message="heartbeatInterval must be a duration of at least 1s: write for example \"5m\"; for a source that never falls silent leave it out"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +optional
	HeartbeatInterval *metav1.Duration `json:"heartbeatInterval,omitempty"`
}

// Finding is one fault with one subject. It is a statement of the present, not an event: a finding that is no
// longer stated is gone.
type Finding struct {
	// source that states the finding; one of the sources of the NodeHealth.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Source string `json:"source"`

	// reason names the fault, for example InterfaceNotUp.
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$')",message="reason must be one word, as a condition's reason is: write for example InterfaceNotUp, and what else there is to say in message"
	// +kubebuilder:validation:MaxLength=128
	// +required
	Reason string `json:"reason"`

	// subject is what the fault is about: an interface, a device, a pod. Empty where the node itself is meant.
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	// +required
	Subject string `json:"subject"`

	// category is the part of the node that is concerned.
	// +required
	Category Category `json:"category"`

	// severity is Fatal or Warning.
	// +required
	Severity Severity `json:"severity"`

	// since is when the fault began; it survives restarts of whoever states it.
	// +required
	Since metav1.Time `json:"since"`

	// lastObserved is when the fault was last seen.
	// +optional
	LastObserved *metav1.Time `json:"lastObserved,omitempty"`

	// count of observations since the fault began.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:default=1
	// +optional
	Count int64 `json:"count,omitempty"`

	// message is one sentence for people.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// evidence holds what was seen: log lines, values.
	// +kubebuilder:validation:MaxItems=5
	// +kubebuilder:validation:items:MaxLength=512
	// +listType=atomic
	// +optional
	Evidence []string `json:"evidence,omitempty"`
}

// NodeHealth is the present truth about one Node: who looks at it, and what they find. It is named as its Node
// and owned by it. Every writer applies its own entries with server-side apply and leaves those of others alone.
// A column shows the first entry of a list only, so there is one for Fatal findings and one for Warnings.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=nh,categories=autorepair
// +kubebuilder:printcolumn:name="Fatal",type=string,JSONPath=`.findings[?(@.severity=="Fatal")].reason`
// +kubebuilder:printcolumn:name="Subject",type=string,JSONPath=`.findings[?(@.severity=="Fatal")].subject`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.findings[?(@.severity=="Fatal")].since`
// +kubebuilder:printcolumn:name="Warning",type=string,JSONPath=`.findings[?(@.severity=="Warning")].reason`
// +kubebuilder:printcolumn:name="Blind",type=string,JSONPath=`.sources[?(@.state=="Unavailable")].name`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.findings[?(@.severity=="Fatal")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeHealth struct {
	metav1.TypeMeta `json:",inline"`

	// metadata of the object; the name is that of the Node.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// bootID of the boot that the findings speak of.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	BootID string `json:"bootID,omitempty"`

	// sources that look at the node.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Sources []Source `json:"sources,omitempty"`

	// findings that hold now.
	// +listType=map
	// +listMapKey=source
	// +listMapKey=reason
	// +listMapKey=subject
	// +kubebuilder:validation:MaxItems=256
	// +optional
	Findings []Finding `json:"findings,omitempty"`
}

// NodeHealthList is a list of NodeHealths.
// +kubebuilder:object:root=true
type NodeHealthList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeHealth `json:"items"`
}
