package snapshot

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestASlimPodStillAnswersWhatIsAskedOfIt(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "a", Labels: map[string]string{"app": "a"},
			Annotations:     map[string]string{karpv1.DoNotDisruptAnnotationKey: "true", "big": "text", corev1.LastAppliedConfigAnnotation: "text"},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "somebody"}},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "a"}},
			Finalizers:      []string{"example.com/wait"},
		},
		Spec: corev1.PodSpec{
			NodeName: "node",
			Containers: []corev1.Container{{
				Name: "main", Image: "image", Env: []corev1.EnvVar{{Name: "A", Value: "b"}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
			}},
			Volumes: []corev1.Volume{{Name: "v"}},
		},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, Message: "long"}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}, ImageID: "image"}},
		},
	}
	Slim(pod)
	require.Equal(t, map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"}, pod.Annotations)
	require.Nil(t, pod.ManagedFields)
	require.Empty(t, pod.Spec.Volumes)
	require.Empty(t, pod.Spec.Containers[0].Env)
	require.Equal(t, "1", pod.Spec.Containers[0].Resources.Requests.Cpu().String())
	require.Equal(t, "node", pod.Spec.NodeName)
	require.Equal(t, map[string]string{"app": "a"}, pod.Labels)
	require.Equal(t, []string{"example.com/wait"}, pod.Finalizers)
	require.True(t, podutils.IsReschedulable(pod))
	require.Equal(t, corev1.ConditionTrue, pod.Status.Conditions[0].Status)
	require.NotNil(t, pod.Status.ContainerStatuses[0].State.Terminated)
}

func TestASlimNodeKeepsAllButItsLists(t *testing.T) {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{karpv1.DoNotRepairAnnotationKey: "true", corev1.LastAppliedConfigAnnotation: "text"}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{v1alpha1.UnhealthyTaint}},
		Status: corev1.NodeStatus{
			Images:     []corev1.ContainerImage{{Names: []string{"image"}}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: "kubelet is gone"}},
		},
	}
	Slim(node)
	require.Empty(t, node.Status.Images)
	require.Equal(t, map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}, node.Annotations)
	require.Equal(t, "kubelet is gone", node.Status.Conditions[0].Message)
	require.Len(t, node.Spec.Taints, 1)
}
