package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
)

// needed are the kinds without which nothing works, and what to do where they are missing.
var needed = []struct {
	kind schema.GroupVersionKind
	hint string
}{
	{schema.GroupVersionKind{Group: "karpenter.sh", Version: "v1", Kind: "NodePool"}, "install Karpenter 1.3 or later with its CustomResourceDefinitions"},
	{schema.GroupVersionKind{Group: "karpenter.sh", Version: "v1", Kind: "NodeClaim"}, "install Karpenter 1.3 or later with its CustomResourceDefinitions"},
	{v1alpha1.SchemeGroupVersion.WithKind("NodeHealth"), "install the chart autorepair-crd of the same version"},
	{v1alpha1.SchemeGroupVersion.WithKind("RepairPolicy"), "install the chart autorepair-crd of the same version"},
	{v1alpha1.SchemeGroupVersion.WithKind("NodeRepair"), "install the chart autorepair-crd of the same version"},
	{v1alpha1.SchemeGroupVersion.WithKind("RepairPause"), "install the chart autorepair-crd of the same version"},
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

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range scheme.Indexes {
		if err := indexer.IndexField(ctx, index.Object, index.Field, index.Extract); err != nil {
			return fmt.Errorf("indexing %T by %s, %w", index.Object, index.Field, err)
		}
	}
	return nil
}
