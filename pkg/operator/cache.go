package operator

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

// cacheOptions keep of each object what decisions and repairs rest on, since the cache is most of our memory.
func cacheOptions() cache.Options {
	return cache.Options{
		DefaultTransform: func(object any) (any, error) {
			if o, ok := object.(client.Object); ok {
				snapshot.Slim(o)
			}
			return object, nil
		},
		ByObject: map[client.Object]cache.ByObject{
			// Pods without a node, and those that have ended, are nothing to a node's repair.
			&corev1.Pod{}: {Field: fields.ParseSelectorOrDie("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed")},
			&coordinationv1.Lease{}: {
				Namespaces: map[string]cache.Config{corev1.NamespaceNodeLease: {}},
			},
		},
	}
}
