package recording

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apiservervalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/crds"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// kindSchema does to objects of one kind what the API server does when they are written: it drops and names unknown
// fields, fills in defaults, and validates against the schema and its rules in CEL.
type kindSchema struct {
	structural *structuralschema.Structural
	shape      apiservervalidation.SchemaValidator
	rules      *cel.Validator
	// lenient kinds get their defaults and are not validated: a recording may be of a Karpenter with another schema.
	lenient bool
}

// schemas are those of the kinds that are defined by a CustomResourceDefinition, ours and Karpenter's.
var schemas = sync.OnceValues(func() (map[schema.GroupVersionKind]*kindSchema, error) {
	out := map[schema.GroupVersionKind]*kindSchema{}
	definitions, err := ownDefinitions()
	if err != nil {
		return nil, err
	}
	for _, crd := range append(definitions, karpapis.CRDs...) {
		if err := addSchemas(out, crd); err != nil {
			return nil, fmt.Errorf("reading customresourcedefinition %s, %w", crd.Name, err)
		}
	}
	return out, nil
})

func ownDefinitions() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	files, err := fs.Glob(crds.FS, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing customresourcedefinitions, %w", err)
	}
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		text, err := crds.FS.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading %s, %w", file, err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(text, crd); err != nil {
			return nil, fmt.Errorf("reading %s, %w", file, err)
		}
		out = append(out, crd)
	}
	return out, nil
}

func addSchemas(out map[schema.GroupVersionKind]*kindSchema, crd *apiextensionsv1.CustomResourceDefinition) error {
	for _, version := range crd.Spec.Versions {
		if version.Schema == nil || version.Schema.OpenAPIV3Schema == nil {
			continue
		}
		props := &apiextensions.JSONSchemaProps{}
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, props, nil); err != nil {
			return err //nolint:wrapcheck // the caller names the definition
		}
		structural, err := structuralschema.NewStructural(props)
		if err != nil {
			return err //nolint:wrapcheck // as above
		}
		shape, _, err := apiservervalidation.NewSchemaValidator(props)
		if err != nil {
			return err //nolint:wrapcheck // as above
		}
		gvk := schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}
		out[gvk] = &kindSchema{
			structural: structural, shape: shape, rules: cel.NewValidator(structural, true, celconfig.PerCallLimit),
			lenient: crd.Spec.Group != v1alpha1.Group,
		}
	}
	return nil
}

// admit changes the object to what the API server would store. unknown are the paths of the fields that it does not know
// and drops, which kubectl apply takes for an error.
func (k *kindSchema) admit(object map[string]any) (unknown []string, problems field.ErrorList) {
	unknown = pruning.PruneWithOptions(object, k.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(object, k.structural)
	defaulting.Default(object, k.structural)
	if k.lenient {
		return unknown, nil
	}
	problems = append(problems, validName(object)...)
	problems = append(problems, apiservervalidation.ValidateCustomResource(nil, object, k.shape)...)
	problems = append(problems, listtype.ValidateListSetsAndMaps(nil, k.structural, object)...)
	if len(problems) == 0 { // rules may assume the shape, as in the API server
		more, _ := k.rules.Validate(context.Background(), nil, k.structural, object, nil, celconfig.RuntimeCELCostBudget)
		problems = append(problems, more...)
	}
	slices.SortStableFunc(problems, func(a, b *field.Error) int { return cmp.Compare(a.Field, b.Field) })
	return unknown, problems
}

func validName(object map[string]any) field.ErrorList {
	path := field.NewPath("metadata", "name")
	metadata, _ := object["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	if name == "" {
		return field.ErrorList{field.Required(path, "write a name")}
	}
	if found := validation.IsDNS1123Subdomain(name); len(found) > 0 {
		return field.ErrorList{field.Invalid(path, name, strings.Join(found, "; "))}
	}
	return nil
}
