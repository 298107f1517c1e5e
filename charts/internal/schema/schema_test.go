package main

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestValuesThatSayTooLittleAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ values, want string }{
		"no values":                             {"", "there have to be values"},
		"a value without a description":         {"a:\n  b: 1\n", `line 2: a.b: write what it is for, in a comment above it that begins with "# -- "`},
		"a default without a type":              {"# -- A.\na:\n", "line 2: a: its default \"\" has no type"},
		"a list of nobody knows what":           {"# -- A.\na: []\n", `line 2: a: write what it may hold: # @schema {"items":`},
		"a map of nobody knows what":            {"# -- A.\na: {}\n", `line 2: a: write what it may hold: # @schema {"additionalProperties":`},
		"a comment that is no JSON":             {"# @schema {items}\n# -- A.\na: []\n", "line 3: a: reading its \"# @schema \""},
		"a type that there is not":              {"# @schema {\"go\": \"agent.Setting\"}\n# -- A.\na: {}\n", `line 3: a: there is no type "agent.Setting"`},
		"a description that helm-docs misreads": {"# -- See run --help.\na: 1\n", `line 2: a: helm-docs takes " --" in a description`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := generate([]byte(test.values))
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestEveryMistakeIsNamedAtOnce(t *testing.T) {
	_, err := generate([]byte("a: 1\nb: 2\n"))
	require.ErrorContains(t, err, "line 1: a:")
	require.ErrorContains(t, err, "line 2: b:")
}

func TestASchemaTakesTheKeysOfTheValuesAndNoOthers(t *testing.T) {
	text, err := generate([]byte(`
a:
  # @schema {"enum": ["x", "y"]}
  # -- Which it is,
  # in two lines.
  b: x
# @schema {"open": true}
# -- Anything.
c: {d: 1}
`))
	require.NoError(t, err)
	var got object
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, false, got["additionalProperties"])
	properties := got["properties"].(object)
	require.Equal(t, object{"type": "object", "additionalProperties": false, "properties": object{
		"b": object{"type": "string", "enum": []any{"x", "y"}, "default": "x", "description": "Which it is, in two lines."},
	}}, properties["a"])
	require.Equal(t, object{"type": "object", "default": object{"d": 1.0}, "description": "Anything."}, properties["c"])
	require.Contains(t, properties, "global")
}

type inner struct {
	D metav1.Duration `json:"d,omitempty"`
}

type outer struct {
	inner `json:",inline"`

	S    v1alpha1.Severity `json:"s"`
	N    *uint32           `json:"n,omitempty"`
	M    map[string]bool   `json:"m,omitzero"`
	L    []float64         `json:"l,omitempty"`
	Not  time.Time         `json:"-"`
	none int
}

func TestATypeTakesWhatEncodingJSONTakes(t *testing.T) {
	_ = outer{}.none
	got, err := ofType(reflect.TypeFor[outer]())
	require.NoError(t, err)
	require.Equal(t, object{"type": "object", "additionalProperties": false, "required": []string{"s"}, "properties": object{
		"d": object{"type": "string"},
		"s": object{"enum": []string{"Fatal", "Warning"}},
		"n": object{"type": "integer", "minimum": 0},
		"m": object{"type": "object", "additionalProperties": object{"type": "boolean"}},
		"l": object{"type": "array", "items": object{"type": "number"}},
	}}, got)
	_, err = ofType(reflect.TypeFor[chan int]())
	require.ErrorContains(t, err, "type chan int has no schema")
}
