package apis_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/test/docs"
)

// documented gives the YAML blocks of the documentation, less those that are values of our chart, which test/helm tries, or
// of Karpenter's, which test/insideaws does.
func documented(t *testing.T) []docs.Block {
	t.Helper()
	blocks, err := docs.AllBlocks(filepath.Join("..", ".."), "yaml")
	require.NoError(t, err)
	blocks = lo.Filter(blocks, func(b docs.Block, _ int) bool {
		return !strings.HasPrefix(b.Text, "# values.yaml") && !strings.HasPrefix(b.Text, "# karpenter-values.yaml")
	})
	require.NotEmpty(t, blocks)
	return blocks
}

// objects gives the documents of a block; none where it is a file of ours, which its first line names.
func objects(t *testing.T, block docs.Block) []*unstructured.Unstructured {
	t.Helper()
	path := filepath.Join(t.TempDir(), "block.yaml")
	require.NoError(t, os.WriteFile(path, []byte(block.Text), 0o600))
	switch name, _, _ := strings.Cut(strings.TrimPrefix(block.Text, "# "), "\n"); name {
	case "node-conditions.yaml":
		_, err := cluster.LoadNodeConditions(path)
		require.NoError(t, err)
		return nil
	case "config.yaml":
		_, err := agent.ParseConfig([]byte(block.Text))
		require.NoError(t, err)
		return nil
	}
	_, documents := readDocuments(t, path)
	return documents
}

// Every example of the documentation can be used as it is written: by the diagnosis, and below by the API server.
func TestDocumentedPoliciesHaveNoProblems(t *testing.T) {
	for _, block := range documented(t) {
		t.Run(block.Name(), func(t *testing.T) {
			for _, document := range objects(t, block) {
				require.NotEmpty(t, document.GetKind(), "a block of YAML is an object, or begins with the name of the file that it is")
				if document.GetKind() != "RepairPolicy" {
					continue
				}
				policy := v1alpha1.RepairPolicy{}
				text, err := yaml.Marshal(document)
				require.NoError(t, err)
				require.NoError(t, yaml.UnmarshalStrict(text, &policy))
				require.Empty(t, diagnosis.Compile([]v1alpha1.RepairPolicy{policy}).Problems(policy.Name))
				for _, rule := range policy.Spec.Rules {
					for _, reason := range rule.Match.Reasons {
						_, known := health.Lookup(reason)
						require.True(t, known, "the catalogue has no reason %s", reason)
					}
				}
			}
		})
	}
}

func TestTheAPIServerAcceptsWhatIsDocumented(t *testing.T) {
	c := needCluster(t)
	for _, crd := range karpapis.CRDs {
		require.NoError(t, client.IgnoreAlreadyExists(c.Client.Create(t.Context(), crd.DeepCopy())))
		require.Eventually(t, func() bool {
			found := &apiextensionsv1.CustomResourceDefinition{}
			return c.Client.Get(t.Context(), client.ObjectKeyFromObject(crd), found) == nil &&
				lo.ContainsBy(found.Status.Conditions, func(condition apiextensionsv1.CustomResourceDefinitionCondition) bool {
					return condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue
				})
		}, 30*time.Second, 100*time.Millisecond)
	}
	for _, block := range documented(t) {
		t.Run(block.Name(), func(t *testing.T) {
			for _, document := range objects(t, block) {
				strict := client.WithFieldValidation(c.Client, metav1.FieldValidationStrict)
				require.NoError(t, strict.Create(t.Context(), document, client.DryRunAll))
			}
		})
	}
}
