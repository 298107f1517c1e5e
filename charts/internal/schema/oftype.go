package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// types are what a program of ours reads a value into, by the name that a "# @schema" comment has for it.
var types = map[string]reflect.Type{
	"agent.Config":      reflect.TypeFor[agent.Config](),
	"[]cluster.Mapping": reflect.TypeFor[[]cluster.Mapping](),
}

// words are the types that take no other texts than these.
var words = map[reflect.Type][]string{
	reflect.TypeFor[v1alpha1.Category]():      texts(health.Categories),
	reflect.TypeFor[v1alpha1.Severity]():      texts([]v1alpha1.Severity{v1alpha1.SeverityFatal, v1alpha1.SeverityWarning}),
	reflect.TypeFor[corev1.ConditionStatus](): texts([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}),
	reflect.TypeFor[health.Stream]():          texts(health.Streams),
}

func texts[T ~string](values []T) []string {
	return lo.Map(values, func(v T, _ int) string { return string(v) })
}

var (
	readsJSON = reflect.TypeFor[json.Unmarshaler]()
	readsText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// ofType gives the schema of what encoding/json takes for a type: fields that it does not know are refused, and those
// without omitempty or omitzero must be there.
func ofType(t reflect.Type) (object, error) {
	if texts, ok := words[t]; ok {
		return object{"enum": texts}, nil // of a number it says too what it may be
	}
	if reflect.PointerTo(t).Implements(readsJSON) || reflect.PointerTo(t).Implements(readsText) {
		return object{"type": "string"}, nil // durations and the like
	}
	switch t.Kind() {
	case reflect.Pointer:
		return ofType(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}, nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}, nil
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}, nil
	case reflect.Float64:
		return object{"type": "number"}, nil
	case reflect.String:
		return object{"type": "string"}, nil
	case reflect.Slice:
		items, err := ofType(t.Elem())
		return object{"type": "array", "items": items}, err
	case reflect.Map:
		values, err := ofType(t.Elem())
		return object{"type": "object", "additionalProperties": values}, err
	case reflect.Struct:
		return ofStruct(t)
	default:
		return nil, fmt.Errorf("type %s has no schema: add one", t)
	}
}

func ofStruct(t reflect.Type) (object, error) {
	properties, required := object{}, []string{}
	for _, field := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "-" || field.Anonymous {
			continue
		}
		if name == "" {
			return nil, fmt.Errorf("field %s of %s has no name in JSON", field.Name, t)
		}
		property, err := ofType(field.Type)
		if err != nil {
			return nil, err
		}
		properties[name] = property
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	schema := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema, nil
}
