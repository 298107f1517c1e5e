// Package fakeapi gives tests an API in memory, for what a real one cannot be made to do on demand.
package fakeapi

import (
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
)

// Builder knows all kinds and indexes of the controller's cache.
func Builder() *fake.ClientBuilder {
	builder := fake.NewClientBuilder().WithScheme(scheme.New())
	for _, index := range scheme.Indexes {
		builder = builder.WithIndex(index.Object, index.Field, index.Extract)
	}
	return builder
}
