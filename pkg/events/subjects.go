package events

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// Node is the subject of an event about a Node of which only the name is known. kubectl describe looks for events by
// UID, and for those of a Node by its name in the place of the UID too, as the kubelet writes them.
func Node(name string) runtime.Object {
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: node},
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
	}
}

// NodePool is the subject of an event about a NodePool.
func NodePool(name string, uid types.UID) runtime.Object {
	return &karpv1.NodePool{
		TypeMeta:   metav1.TypeMeta{APIVersion: karpapis.Group + "/v1", Kind: nodePool},
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid},
	}
}
