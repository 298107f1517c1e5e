package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RepairPauseSpec says until when nothing is repaired, and why.
type RepairPauseSpec struct {
	// until is when the pause ends by itself. Absent: it holds until it is deleted.
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$')",message="until must be a time with its zone: write for example \"2030-01-31T18:00:00Z\"; to stop until the RepairPause is deleted leave until out"
	// +kubebuilder:validation:MaxLength=40
	// +optional
	Until string `json:"until,omitempty"`

	// zones that the pause is for, as the Nodes' label topology.kubernetes.io/zone names them: the repairs of nodes in
	// them stop, and no replacement is made in them. Absent: all repairs stop.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +optional
	Zones []string `json:"zones,omitempty"`

	// reason is for those who find their nodes unrepaired: what is going on, and whom to ask.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Reason string `json:"reason,omitempty"`
}

// RepairPause stops all repairs in the cluster, or in some zones, while it exists, or until its time has come: nothing
// new starts, and what has been fenced but not yet terminated is let go. Any of several is enough.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=rpause,categories=autorepair
// +kubebuilder:printcolumn:name="Until",type=string,JSONPath=`.spec.until`
// +kubebuilder:printcolumn:name="Zones",type=string,JSONPath=`.spec.zones`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.spec.reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RepairPause struct {
	metav1.TypeMeta `json:",inline"`

	// metadata of the object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says until when and why. An empty one stops everything until the RepairPause is deleted.
	// +optional
	Spec RepairPauseSpec `json:"spec,omitempty"`
}

// RepairPauseList is a list of RepairPauses.
// +kubebuilder:object:root=true
type RepairPauseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RepairPause `json:"items"`
}
