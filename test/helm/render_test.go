package helm

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	agentcli "github.com/autorepair-sh/karpenter-autorepair/pkg/agent/cli"
	detectors "github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/operator"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/golden"
)

// presets are the sets of values that are tried: our own defaults, the presets of the chart, and one with every option on.
var presets = map[string][]string{
	"default":                   nil,
	"eks":                       {"--values", preset("eks")},
	"eks-node-monitoring-agent": {"--values", preset("eks-node-monitoring-agent")},
	"minimal":                   {"--values", preset("minimal")},
	"everything":                {"--values", filepath.Join("testdata", "everything.values.yaml")},
}

func preset(name string) string {
	return filepath.Join("..", "..", "charts", "autorepair", "presets", name+".yaml")
}

func chart(name string) string { return filepath.Join("..", "..", "charts", name) }

// plain are the files that the chart puts in as they are, and how far it indents them; golden files leave them out.
var plain = map[string]string{"files/alerts.yaml": "  ", "files/dashboard.json": "    "}

// needHelm skips where Helm is not built.
func needHelm(t *testing.T) {
	t.Helper()
	_, err := cluster.Charts()
	require.NoError(t, err)
	if _, err := cluster.Helm(t.Context(), "version"); errors.Is(err, cluster.ErrNoHelm) {
		t.Skip("SKIPPED: " + err.Error())
	} else {
		require.NoError(t, err)
	}
}

// rendered gives the objects of the chart.
func rendered(t *testing.T, args ...string) cluster.Rendered {
	t.Helper()
	needHelm(t)
	objects, err := cluster.RenderChart(t.Context(), args...)
	require.NoError(t, err)
	return objects
}

func TestEveryPresetRendersAsItsGoldenFile(t *testing.T) {
	needHelm(t)
	for name, args := range presets {
		t.Run(name, func(t *testing.T) {
			rendersAs(t, name+".yaml", append([]string{"autorepair", chart("autorepair"), "--namespace", "autorepair"}, args...)...)
		})
	}
	t.Run("the definitions", func(t *testing.T) {
		// Their text is that of pkg/apis/crds; what the chart adds is on top.
		text, err := cluster.Helm(t.Context(), "template", "autorepair-crd", chart("autorepair-crd"), "--set=labels.a=b,annotations.c=d")
		require.NoError(t, err)
		golden.Require(t, filepath.Join("testdata", "autorepair-crd.yaml"), cut(text))
	})
}

func rendersAs(t *testing.T, file string, args ...string) {
	t.Helper()
	text, err := cluster.Helm(t.Context(), append([]string{"template"}, args...)...)
	require.NoError(t, err)
	for name, indentation := range plain {
		content, err := os.ReadFile(filepath.Join(chart("autorepair"), name))
		require.NoError(t, err)
		lines := strings.ReplaceAll(indentation+strings.TrimRight(string(content), "\n"), "\n", "\n"+indentation)
		text = strings.ReplaceAll(text, lines, indentation+"("+name+")")
	}
	golden.Require(t, filepath.Join("testdata", file), text)
}

var spec = regexp.MustCompile(`(?ms)^spec:\n(  .*?\n|\n)+`)

// cut leaves the metadata of definitions.
func cut(text string) string { return spec.ReplaceAllString(text, "") }

func TestEveryPresetOfTheChartIsTried(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(chart("autorepair"), "presets", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		require.Contains(t, presets, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	}
}

func TestHelmLintFindsNothing(t *testing.T) {
	needHelm(t)
	for name, args := range presets {
		t.Run(name, func(t *testing.T) {
			_, err := cluster.Helm(t.Context(), append([]string{"lint", "--strict", chart("autorepair")}, args...)...)
			require.NoError(t, err)
		})
	}
	_, err := cluster.Helm(t.Context(), "lint", "--strict", chart("autorepair-crd"))
	require.NoError(t, err)
}

func TestOneTemplateMakesOneObject(t *testing.T) {
	needHelm(t)
	text, err := cluster.Helm(t.Context(), append([]string{"template", "autorepair", chart("autorepair")}, presets["everything"]...)...)
	require.NoError(t, err)
	made := map[string]int{}
	for line := range strings.SplitSeq(text, "\n") {
		if source, ok := strings.CutPrefix(line, "# Source: autorepair/templates/"); ok {
			made[source]++
		}
	}
	templates, err := filepath.Glob(filepath.Join(chart("autorepair"), "templates", "*.yaml"))
	require.NoError(t, err)
	for _, template := range templates {
		name := filepath.Base(template)
		if name == "repairpolicies.yaml" { // as many as there are values
			continue
		}
		require.Equal(t, 1, made[name], "%s, with every option on", name)
	}
}

// The definitions of the chart are those of the API, but for labels and annotations.
func TestTheDefinitionsAreThoseOfTheAPI(t *testing.T) {
	needHelm(t)
	for _, keep := range []string{"true", "false"} {
		objects, err := cluster.Render(t.Context(), "autorepair-crd", "--set=keep="+keep)
		require.NoError(t, err)
		want, err := cluster.Definitions()
		require.NoError(t, err)
		require.Len(t, objects, len(want))
		for i, object := range objects {
			require.Equal(t, want[i].GetName(), object.GetName())
			require.Equal(t, want[i].Object["spec"], object.Object["spec"])
			require.Equal(t, keep == "true", object.GetAnnotations()["helm.sh/resource-policy"] == "keep")
			require.Subset(t, object.GetAnnotations(), want[i].GetAnnotations())
			require.Equal(t, "autorepair", object.GetLabels()["app.kubernetes.io/part-of"])
		}
	}
}

func TestEveryObjectSaysWhatItBelongsTo(t *testing.T) {
	for _, object := range rendered(t, presets["everything"]...) {
		require.Equal(t, "autorepair", object.GetLabels()["app.kubernetes.io/part-of"], object.GetName())
		require.Equal(t, "example", object.GetLabels()["example.com/team"], object.GetName())
	}
}

// notValues are flags that no operator needs: what they say is given by where the program runs.
var notValues = map[string][]string{
	"controller": {"kubeconfig", "leader-election-namespace"},
	"agent":      {"kubeconfig", "node-name", "state-file", "liveness-socket", "heartbeat-interval", "help"},
}

func TestEveryFlagHasAValue(t *testing.T) {
	objects := rendered(t, presets["everything"]...)
	deployment, daemonSet := &appsv1.Deployment{}, &appsv1.DaemonSet{}
	require.NoError(t, objects.Into("Deployment", "autorepair-controller", deployment))
	require.NoError(t, objects.Into("DaemonSet", "autorepair-agent", daemonSet))
	ofController := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	options := operator.Options{}
	options.AddFlags(ofController)
	run, _, err := agentcli.New("").Find([]string{"run"})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		pod   corev1.PodSpec
		flags *pflag.FlagSet
	}{
		"controller": {pod: deployment.Spec.Template.Spec, flags: ofController},
		"agent":      {pod: daemonSet.Spec.Template.Spec, flags: run.Flags()},
	} {
		args := test.pod.Containers[0].Args
		test.flags.VisitAll(func(flag *pflag.Flag) {
			given := slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--"+flag.Name+"=") })
			require.True(t, given || slices.Contains(notValues[name], flag.Name), "the chart gives the %s no --%s: make a value of it, or say here why not", name, flag.Name)
		})
		require.NoError(t, test.flags.Parse(slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "run" })), "%s knows every flag that the chart gives it", name)
	}
	require.NoError(t, options.Validate())
}

func TestWhatTheProgramsReadIsValid(t *testing.T) {
	for name, args := range presets {
		t.Run(name, func(t *testing.T) {
			for _, object := range rendered(t, args...) {
				if object.GetKind() != "ConfigMap" {
					continue
				}
				files, _, err := unstructured.NestedStringMap(object.Object, "data")
				require.NoError(t, err)
				switch object.GetName() {
				case "autorepair-agent":
					_, err := agent.ParseConfig([]byte(files["config.yaml"]))
					require.NoError(t, err)
				case "autorepair-controller":
					path := filepath.Join(t.TempDir(), "node-conditions.yaml")
					require.NoError(t, os.WriteFile(path, []byte(files["node-conditions.yaml"]), 0o600))
					_, err := detectors.LoadNodeConditions(path)
					require.NoError(t, err)
				}
			}
		})
	}
}
