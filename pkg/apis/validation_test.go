// Package apis_test asks the API server what it thinks of the API.
package apis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// real is a cluster with our CRDs; nil where the tests on one are skipped.
var real *cluster.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("LOCALCLUSTER") == "" {
		return m.Run()
	}
	ctx := context.Background()
	var err error
	if real, err = cluster.Up(ctx, cluster.Options{Name: "validation", Karpenter: "none", Out: os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := real.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	if err := real.InstallCRDs(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func needCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	if real == nil {
		t.Skip("LOCALCLUSTER is not set, so there is no API server to ask: run make test-cluster")
	}
	return real
}

// examples gives the files of a folder of testdata, without their ending.
func examples(t *testing.T, folder string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return lo.SliceToMap(paths, func(path string) (string, string) {
		return strings.TrimSuffix(filepath.Base(path), ".yaml"), path
	})
}

func readDocuments(t *testing.T, path string) ([]byte, []*unstructured.Unstructured) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var out []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return text, out
		}
		require.NoError(t, err)
		out = append(out, object)
	}
}

// write creates the object, or updates what the document before it has made. Unknown fields are refused, as kubectl does.
func write(ctx context.Context, c *cluster.Cluster, object *unstructured.Unstructured) error {
	strict := client.WithFieldValidation(c.Client, metav1.FieldValidationStrict)
	existing := object.NewEmptyInstance().(*unstructured.Unstructured)
	existing.SetGroupVersionKind(object.GroupVersionKind())
	err := c.Client.Get(ctx, client.ObjectKeyFromObject(object), existing)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading it, %w", err)
	}
	if err != nil {
		return strict.Create(ctx, object) //nolint:wrapcheck // the answer of the API server is what is tested
	}
	object.SetResourceVersion(existing.GetResourceVersion())
	return strict.Update(ctx, object) //nolint:wrapcheck // as above
}

func deleteAtEnd(t *testing.T, c *cluster.Cluster, object client.Object) {
	t.Helper()
	t.Cleanup(func() {
		require.NoError(t, client.IgnoreNotFound(c.Client.Delete(context.Background(), object)))
	})
}

// accepted gives the examples that must pass, the policy that we ship among them.
func accepted(t *testing.T) map[string]string {
	t.Helper()
	paths := examples(t, "accepted")
	paths["the default policy"] = filepath.Join("..", "..", "charts", "autorepair", "files", "default-repairpolicy.yaml")
	return paths
}

func TestTheAPIServerAccepts(t *testing.T) {
	c := needCluster(t)
	for name, path := range accepted(t) {
		t.Run(name, func(t *testing.T) {
			_, documents := readDocuments(t, path)
			require.Len(t, documents, 1)
			require.NoError(t, write(t.Context(), c, documents[0]))
			deleteAtEnd(t, c, documents[0])
		})
	}
}

// What the API server accepts, the diagnosis must be able to use.
func TestAcceptedPoliciesHaveNoProblems(t *testing.T) {
	for name, path := range accepted(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		policy := v1alpha1.RepairPolicy{}
		require.NoError(t, yaml.Unmarshal(text, &policy), name)
		if policy.Kind != "RepairPolicy" {
			continue
		}
		require.Empty(t, diagnosis.Compile([]v1alpha1.RepairPolicy{policy}).Problems(policy.Name), name)
	}
}

var want = regexp.MustCompile(`(?m)^# want: (.+)$`)

// Of several documents the last must be refused, for the reason that the file's "# want:" names.
func TestTheAPIServerRefuses(t *testing.T) {
	c := needCluster(t)
	for name, path := range examples(t, "rejected") {
		t.Run(name, func(t *testing.T) {
			text, documents := readDocuments(t, path)
			found := want.FindSubmatch(text)
			require.NotNil(t, found, "%s has no line \"# want: what the API server says\"", path)
			last := len(documents) - 1
			for _, object := range documents[:last] {
				require.NoError(t, write(t.Context(), c, object))
				deleteAtEnd(t, c, object)
			}
			err := write(t.Context(), c, documents[last])
			if err == nil {
				deleteAtEnd(t, c, documents[last])
			}
			require.ErrorContains(t, err, string(found[1]))
		})
	}
}

func TestTheAPIServerFillsInDefaults(t *testing.T) {
	c := needCluster(t)
	_, documents := readDocuments(t, filepath.Join("testdata", "accepted", "minimal.yaml"))
	require.NoError(t, write(t.Context(), c, documents[0]))
	deleteAtEnd(t, c, documents[0])
	policy := &v1alpha1.RepairPolicy{}
	require.NoError(t, c.Client.Get(t.Context(), client.ObjectKeyFromObject(documents[0]), policy))
	duration := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	require.Equal(t, v1alpha1.RepairPolicySpec{
		Mode: v1alpha1.ModeEnforce,
		Rules: []v1alpha1.RepairRule{{
			Name:     "a",
			Match:    v1alpha1.FindingMatch{Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}},
			Tolerate: metav1.Duration{Duration: 10 * time.Minute},
			Action:   v1alpha1.ActionReplace,
		}},
		Reboot: v1alpha1.RebootSpec{Attempts: lo.ToPtr[int32](2), Window: duration(24 * time.Hour)},
		CorrelatedFailure: v1alpha1.CorrelatedFailureSpec{
			MaxUnhealthy: lo.ToPtr(intstr.FromString("20%")), MinNodes: lo.ToPtr[int32](3),
		},
		Replacement: v1alpha1.ReplacementSpec{
			Strategy:          v1alpha1.StrategyReplaceFirst,
			LaunchTimeout:     duration(90 * time.Second),
			InitializeTimeout: duration(15 * time.Minute),
			VerifyFor:         duration(5 * time.Minute),
			Attempts:          lo.ToPtr[int32](3),
			MaxLaunching:      lo.ToPtr[int32](5),
		},
	}, policy.Spec)
}

// What Go writes must be what the API server takes: it prints ten minutes as 10m0s.
func TestWhatGoWritesIsAccepted(t *testing.T) {
	c := needCluster(t)
	text, err := os.ReadFile(filepath.Join("testdata", "accepted", "everything-set.yaml"))
	require.NoError(t, err)
	policy := &v1alpha1.RepairPolicy{}
	require.NoError(t, yaml.UnmarshalStrict(text, policy))
	policy.Name = "written-by-go"
	require.NoError(t, c.Client.Create(t.Context(), policy))
	deleteAtEnd(t, c, policy)
}
