package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// ErrNoHelm says that Helm has not been built.
var ErrNoHelm = errors.New("helm is not built: run make helm")

// Rendered are the objects of a chart, as Helm makes them.
type Rendered []*unstructured.Unstructured

// Charts is the folder of the charts.
func Charts() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "charts"), nil
}

// Helm runs bin/helm and gives its output; the error holds what it said.
func Helm(ctx context.Context, args ...string) (string, error) {
	binary, err := Binary("helm")
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(binary); err != nil {
		return "", ErrNoHelm
	}
	cmd := exec.CommandContext(ctx, binary, args...) //nolint:gosec // our own program
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("running helm %s, %w\n%s", strings.Join(args, " "), err, said.String())
	}
	return out.String(), nil
}

// RenderChart renders charts/autorepair for the namespace of ServiceAccount. args are further arguments of `helm
// template`, such as --set=agent.enabled=false.
func RenderChart(ctx context.Context, args ...string) (Rendered, error) {
	charts, err := Charts()
	if err != nil {
		return nil, err
	}
	text, err := Helm(ctx, append([]string{"template", "autorepair", filepath.Join(charts, "autorepair"), "--namespace", ServiceAccount.Namespace}, args...)...)
	if err != nil {
		return nil, err
	}
	var rendered Rendered
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return rendered, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading what helm rendered, %w", err)
		}
		if len(object.Object) > 0 {
			rendered = append(rendered, object)
		}
	}
}

// Into reads the one object of that kind and name into a typed one, and takes no field that the type does not know.
func (r Rendered) Into(kind, name string, into any) error {
	var found *unstructured.Unstructured
	for _, object := range r {
		if object.GetKind() != kind || object.GetName() != name {
			continue
		}
		if found != nil {
			return fmt.Errorf("finding %s %s in the chart: there are several", kind, name)
		}
		found = object
	}
	if found == nil {
		return fmt.Errorf("finding %s %s in the chart: there is none", kind, name)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(found.Object, into, true); err != nil {
		return fmt.Errorf("reading %s %s of the chart, %w", kind, name, err)
	}
	return nil
}
