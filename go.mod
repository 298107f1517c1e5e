module github.com/autorepair-sh/karpenter-autorepair

go 1.26.9

require (
	sigs.k8s.io/karpenter v1.15.0
	k8s.io/api v0.36.3
	k8s.io/apimachinery v0.36.3
	k8s.io/client-go v0.36.3
	sigs.k8s.io/controller-runtime v0.24.1
	github.com/samber/lo v1.53.0
	pgregory.net/rapid v1.2.0
)
