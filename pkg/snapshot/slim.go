package snapshot

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// Slim leaves of an object what decisions and repairs rest on. For a cache that is most of the memory; for a recording it
// keeps out what is nobody's business: environments and commands of containers, images of nodes, other people's annotations.
func Slim(object client.Object) {
	object.SetManagedFields(settersOfStops(object))
	switch o := object.(type) {
	case *corev1.Pod:
		slimPod(o)
	case *corev1.Node:
		slimNode(o)
	}
}

// settersOfStops are the field managers by which a stop can be told who set it; nothing else asks for them.
func settersOfStops(object client.Object) []metav1.ManagedFieldsEntry {
	var fields []string
	switch object.(type) {
	case *v1alpha1.RepairPause:
		return object.GetManagedFields()
	case *v1alpha1.RepairPolicy:
		fields = []string{"mode"}
	case *corev1.Node, *karpv1.NodeClaim, *karpv1.NodePool:
		for _, annotation := range []string{karpv1.DoNotRepairAnnotationKey, v1alpha1.VetoAnnotation, v1alpha1.PauseAnnotation} {
			if _, ok := object.GetAnnotations()[annotation]; ok {
				fields = append(fields, annotation)
			}
		}
	}
	var kept []metav1.ManagedFieldsEntry
	for _, entry := range object.GetManagedFields() {
		if slices.ContainsFunc(fields, func(field string) bool { return decision.Manages(&entry, field) }) {
			kept = append(kept, entry)
		}
	}
	return kept
}

// slimPod leaves what says whether a pod has to move, may be disrupted, has ended, and what it asks for.
func slimPod(pod *corev1.Pod) {
	for key := range pod.Annotations {
		if !strings.HasPrefix(key, "karpenter.sh/") && key != corev1.PodDeletionCost && key != corev1.MirrorPodAnnotationKey {
			delete(pod.Annotations, key)
		}
	}
	spec := pod.Spec
	pod.Spec = corev1.PodSpec{
		NodeName:                      spec.NodeName,
		NodeSelector:                  spec.NodeSelector,
		Affinity:                      spec.Affinity,
		Tolerations:                   spec.Tolerations,
		TopologySpreadConstraints:     spec.TopologySpreadConstraints,
		Priority:                      spec.Priority,
		PriorityClassName:             spec.PriorityClassName,
		TerminationGracePeriodSeconds: spec.TerminationGracePeriodSeconds,
		RestartPolicy:                 spec.RestartPolicy,
		HostNetwork:                   spec.HostNetwork,
		Overhead:                      spec.Overhead,
		Resources:                     spec.Resources,
		ResourceClaims:                spec.ResourceClaims,
		Containers:                    slimContainers(spec.Containers),
		InitContainers:                slimContainers(spec.InitContainers),
	}
	status := pod.Status
	pod.Status = corev1.PodStatus{
		Phase:                 status.Phase,
		Reason:                status.Reason,
		StartTime:             status.StartTime,
		NominatedNodeName:     status.NominatedNodeName,
		Conditions:            slimConditions(status.Conditions),
		ContainerStatuses:     slimStatuses(status.ContainerStatuses),
		InitContainerStatuses: slimStatuses(status.InitContainerStatuses),
	}
}

func slimContainers(containers []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range containers {
		out = append(out, corev1.Container{
			Name: containers[i].Name, Resources: containers[i].Resources, RestartPolicy: containers[i].RestartPolicy, Ports: containers[i].Ports,
		})
	}
	return out
}

func slimConditions(conditions []corev1.PodCondition) []corev1.PodCondition {
	var out []corev1.PodCondition
	for _, condition := range conditions {
		out = append(out, corev1.PodCondition{
			Type: condition.Type, Status: condition.Status, Reason: condition.Reason, LastTransitionTime: condition.LastTransitionTime,
		})
	}
	return out
}

func slimStatuses(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range statuses {
		out = append(out, corev1.ContainerStatus{Name: statuses[i].Name, State: statuses[i].State, Ready: statuses[i].Ready})
	}
	return out
}

// slimNode drops the lists of images and volumes, which are most of a Node.
func slimNode(node *corev1.Node) {
	delete(node.Annotations, corev1.LastAppliedConfigAnnotation) // a whole second copy of the object
	node.Status.Images = nil
	node.Status.VolumesInUse = nil
	node.Status.VolumesAttached = nil
}
