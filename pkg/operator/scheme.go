package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// NewScheme knows Kubernetes' own types, Karpenter's and ours.
func NewScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	karpenter := schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}
	scheme.AddKnownTypes(karpenter, &karpv1.NodePool{}, &karpv1.NodePoolList{}, &karpv1.NodeClaim{}, &karpv1.NodeClaimList{})
	metav1.AddToGroupVersion(scheme, karpenter)
	return scheme
}

// needed are the kinds without which nothing works, and what to do where they are missing.
var needed = []struct {
	kind schema.GroupVersionKind
	hint string
}{
	{schema.GroupVersionKind{Group: "karpenter.sh", Version: "v1", Kind: "NodePool"}, "install Karpenter 1.3 or later with its CustomResourceDefinitions"},
	{schema.GroupVersionKind{Group: "karpenter.sh", Version: "v1", Kind: "NodeClaim"}, "install Karpenter 1.3 or later with its CustomResourceDefinitions"},
	{v1alpha1.SchemeGroupVersion.WithKind("NodeHealth"), "kubectl apply --server-side -f pkg/apis/crds"},
	{v1alpha1.SchemeGroupVersion.WithKind("RepairPolicy"), "kubectl apply --server-side -f pkg/apis/crds"},
	{v1alpha1.SchemeGroupVersion.WithKind("NodeRepair"), "kubectl apply --server-side -f pkg/apis/crds"},
}

// CheckKinds says which CustomResourceDefinitions are missing and what to apply.
func CheckKinds(mapper meta.RESTMapper) error {
	var problems []string
	for _, need := range needed {
		_, err := mapper.RESTMapping(need.kind.GroupKind(), need.kind.Version)
		if meta.IsNoMatchError(err) {
			problems = append(problems, fmt.Sprintf("the API server does not know %s: %s", need.kind.GroupKind(), need.hint))
			continue
		}
		if err != nil {
			return fmt.Errorf("asking for the API's kinds, %w", err)
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n"))
	}
	return nil
}

// addIndexes indexes what Karpenter's helpers look up by field.
func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range []struct {
		object  client.Object
		field   string
		extract client.IndexerFunc
	}{
		{&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }},
		{&corev1.Node{}, "spec.providerID", func(o client.Object) []string { return []string{o.(*corev1.Node).Spec.ProviderID} }},
		{&karpv1.NodeClaim{}, "status.providerID", func(o client.Object) []string { return []string{o.(*karpv1.NodeClaim).Status.ProviderID} }},
	} {
		if err := indexer.IndexField(ctx, index.object, index.field, index.extract); err != nil {
			return fmt.Errorf("indexing %T by %s, %w", index.object, index.field, err)
		}
	}
	return nil
}
