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

// Charts is the folder of the charts. It looks at each of their files, so that Go, which knows nothing of what Helm
// reads, does not take the result of an earlier test for good when one has changed.
func Charts() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	charts := filepath.Join(root, "charts")
	if err := filepath.WalkDir(charts, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			_, err = os.Stat(path)
		}
		return err
	}); err != nil {
		return "", fmt.Errorf("looking at the charts, %w", err)
	}
	return charts, nil
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

// RenderChart renders charts/autorepair. args are further arguments of `helm template`, such as
// --set=agent.enabled=false.
func RenderChart(ctx context.Context, args ...string) (Rendered, error) {
	return Render(ctx, "autorepair", args...)
}

// Render renders a chart for the namespace of ServiceAccount, under its own name.
func Render(ctx context.Context, chart string, args ...string) (Rendered, error) {
	charts, err := Charts()
	if err != nil {
		return nil, err
	}
	text, err := Helm(ctx, append([]string{"template", chart, filepath.Join(charts, chart), "--namespace", ServiceAccount.Namespace}, args...)...)
	if err != nil {
		return nil, err
	}
	return readObjects(strings.NewReader(text))
}

func readObjects(text io.Reader) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for decoder := utilyaml.NewYAMLOrJSONDecoder(text, 4096); ; {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading YAML, %w", err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
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
