// Package v1alpha1 holds the API of the group autorepair.sh: what is known about a node (NodeHealth),
// what shall be done about it (RepairPolicy), one attempt at doing it (NodeRepair), and the stop of it all (RepairPause).
//
// +kubebuilder:object:generate=true
// +groupName=autorepair.sh
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group, and the prefix of every label, annotation, taint and condition of ours.
const Group = "autorepair.sh"

// SchemeGroupVersion is the group and version of these types.
var SchemeGroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// SchemeBuilder registers the types of this package; AddToScheme applies it.
var (
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	AddToScheme   = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion,
		&NodeHealth{}, &NodeHealthList{},
		&RepairPolicy{}, &RepairPolicyList{},
		&NodeRepair{}, &NodeRepairList{},
		&RepairPause{}, &RepairPauseList{},
	)
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
