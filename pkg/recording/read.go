package recording

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Bounds of what is read. A recording of 5,000 nodes with 30 pods each has about 200,000 objects in half a GiB.
const (
	maxBytes     = 2 << 30 // of one file
	maxDocuments = 100_000 // of one file
	maxObjects   = 2_000_000
)

// Reading gathers the objects of several files.
type Reading struct {
	objects  []client.Object
	places   map[objectName]where
	skipped  map[string]int
	warnings []string
}

type objectName struct {
	kind schema.GroupKind
	key  client.ObjectKey
}

// NewReading begins without any.
func NewReading() *Reading {
	return &Reading{places: map[objectName]where{}, skipped: map[string]int{}}
}

// Read adds the objects of one file: documents of YAML between lines of ---, or values of JSON one after another; lists of
// any kind are taken apart. Objects of kinds that are no part of a recording are skipped, which Warnings tells. An error
// names the file, the document and the line. Objects of our kinds are completed and validated as by the API server.
func (r *Reading) Read(file string, in io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(in, maxBytes+1))
	if err != nil {
		return fmt.Errorf("reading %s, %w", file, err)
	}
	if len(text) > maxBytes {
		return fmt.Errorf("reading %s: it is longer than %d GiB", file, maxBytes>>30)
	}
	documents, err := split(text)
	if err != nil {
		return fmt.Errorf("reading %s, %w", file, err)
	}
	for i := range documents {
		if err := r.document(where{file: file, number: i + 1, document: &documents[i]}); err != nil {
			return err
		}
	}
	return nil
}

// Objects that have been read, in their order.
func (r *Reading) Objects() []client.Object { return r.objects }

// Warnings say what was left out, one sentence each.
func (r *Reading) Warnings() []string {
	out := slices.Clone(r.warnings)
	kinds := make([]string, 0, len(r.skipped))
	for kind := range r.skipped {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		out = append(out, fmt.Sprintf("skipped %d of kind %s: no decision rests on it", r.skipped[kind], kind))
	}
	return out
}

func (r *Reading) document(at where) error {
	value := map[string]any{}
	var err error
	if at.document.json {
		err = utiljson.Unmarshal(at.document.text, &value)
	} else {
		value, err = fromYAML(at.document.text)
	}
	if err != nil {
		place := at.place()
		place.Line, err = locate(*at.document, err)
		return fmt.Errorf("%s: %w", place, err)
	}
	if len(value) == 0 {
		return nil
	}
	return r.value(at, value)
}

func fromYAML(text []byte) (map[string]any, error) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller names the place
	}
	if trimmed := bytes.TrimSpace(asJSON); bytes.Equal(trimmed, []byte("null")) {
		return nil, nil
	} else if len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, errors.New("it is no object: write apiVersion, kind and metadata")
	}
	value := map[string]any{}
	return value, utiljson.Unmarshal(asJSON, &value)
}

// value takes one object, or a list of them.
func (r *Reading) value(at where, value map[string]any) error {
	apiVersion, _ := value["apiVersion"].(string)
	kind, _ := value["kind"].(string)
	if apiVersion == "" || kind == "" {
		return fmt.Errorf("%s: it has no apiVersion or no kind", at.place())
	}
	if items, ok := value["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		return r.list(at, apiVersion, kind, items)
	}
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	if !wanted(gvk) {
		r.skipped[gvk.GroupVersion().String()+" "+gvk.Kind]++
		return nil
	}
	return r.object(at, gvk, value)
}

func (r *Reading) list(at where, apiVersion, kind string, items []any) error {
	if len(at.path) > 0 {
		return fmt.Errorf("%s: a list in a list", at.place())
	}
	for i, item := range items {
		inner := at
		inner.path = []any{"items", i}
		object, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: item %d of the list is no object", inner.place(), i)
		}
		inherit(object, apiVersion, kind)
		if err := r.value(inner, object); err != nil {
			return err
		}
	}
	return nil
}

// inherit fills in what the items of a typed list leave out.
func inherit(item map[string]any, apiVersion, listKind string) {
	if listKind == "List" {
		return
	}
	if _, ok := item["kind"]; !ok {
		item["kind"] = strings.TrimSuffix(listKind, "List")
	}
	if _, ok := item["apiVersion"]; !ok {
		item["apiVersion"] = apiVersion
	}
}

func (r *Reading) object(at where, gvk schema.GroupVersionKind, value map[string]any) error {
	if err := r.admit(at, gvk, value); err != nil {
		return err
	}
	typed, err := kinds.New(gvk)
	if err != nil {
		return fmt.Errorf("%s: %w", at.place(), err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(value, typed); err != nil {
		return fmt.Errorf("%s: %s %q cannot be read: %w", at.place(), gvk.Kind, nameOf(value), err)
	}
	object, ok := typed.(client.Object)
	if !ok || object.GetName() == "" {
		return fmt.Errorf("%s: the %s has no metadata.name", at.place(), gvk.Kind)
	}
	if !tells(object) {
		return nil
	}
	name := objectName{kind: gvk.GroupKind(), key: client.ObjectKeyFromObject(object)}
	if first, twice := r.places[name]; twice {
		return fmt.Errorf("%s: %s %s is there twice, first at %s: leave one of them out", at.place(), gvk.Kind, object.GetName(), first.place())
	}
	if len(r.objects) >= maxObjects {
		return fmt.Errorf("%s: more than %d objects", at.place(), maxObjects)
	}
	r.places[name] = at
	r.objects = append(r.objects, object)
	return nil
}

// admit does with the object what the API server does where its kind is defined by a CustomResourceDefinition. Unknown
// fields of a RepairPolicy are an error, as they are to kubectl apply, since they may change its sense; of others of ours
// they are told of.
func (r *Reading) admit(at where, gvk schema.GroupVersionKind, value map[string]any) error {
	all, err := schemas()
	if err != nil {
		return err
	}
	s, ok := all[gvk]
	if !ok {
		return nil
	}
	name := nameOf(value)
	unknown, problems := s.admit(value)
	var lines []string
	for _, field := range unknown {
		switch place := at.place(fieldPath(field)...); {
		case gvk.Kind == policyKind:
			lines = append(lines, fmt.Sprintf("line %d: %s: unknown field", place.Line, field))
		case !s.lenient:
			r.warnings = append(r.warnings, fmt.Sprintf("%s: %s %q: the unknown field %s is ignored", place, gvk.Kind, name, field))
		}
	}
	for _, problem := range problems {
		lines = append(lines, fmt.Sprintf("line %d: %s", at.place(fieldPath(problem.Field)...).Line, problem.Error()))
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%s: the API server would refuse the %s %q:\n  %s", at.place(), gvk.Kind, name, strings.Join(lines, "\n  "))
}

func nameOf(value map[string]any) string {
	return (&unstructured.Unstructured{Object: value}).GetName()
}
