package install

import (
	"context"
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kwokapis "sigs.k8s.io/karpenter/kwok/apis"
	karpenterapis "sigs.k8s.io/karpenter/pkg/apis"
)

var crdResource = apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")

// CRDs installs those of Karpenter and of its kwok provider and waits until
// they are served.
func (c *Client) CRDs(ctx context.Context) error {
	definitions := slices.Concat(karpenterapis.CRDs, kwokapis.CRDs)
	for _, definition := range definitions {
		if err := c.apply(ctx, crdResource, definition); err != nil {
			return err
		}
	}
	for _, definition := range definitions {
		err := wait(ctx, definition.Name+" to be established", func(ctx context.Context) (bool, error) {
			return c.established(ctx, definition.Name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) established(ctx context.Context, name string) (bool, error) {
	object, err := c.dynamic.Resource(crdResource).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("reading, %w", err)
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &definition); err != nil {
		return false, fmt.Errorf("converting, %w", err)
	}
	for _, condition := range definition.Status.Conditions {
		if condition.Type == apiextensionsv1.Established {
			return condition.Status == apiextensionsv1.ConditionTrue, nil
		}
	}
	return false, nil
}
