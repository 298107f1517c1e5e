package apis_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodeclaim/conditions"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/docs"
)

// What we have written on objects of others, and what the documentation says to do so that nothing of it stays.
func TestWhatIsDocumentedRemovesEverythingOfOurs(t *testing.T) {
	c := needCluster(t)
	blocks, err := docs.Blocks(filepath.Join("..", ".."), filepath.Join("docs", "install.md"))
	require.NoError(t, err)
	removal, found := lo.Find(blocks, func(b docs.Block) bool { return b.Mark == "removal" })
	require.True(t, found, "docs/install.md has no block that is marked <!-- removal -->")
	installKarpentersCRDs(t, c)

	claim := unstructuredOf("karpenter.sh/v1", "NodeClaim", "removal")
	claim.Object["spec"] = map[string]any{
		"nodeClassRef": map[string]any{"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"},
		"requirements": []any{map[string]any{"key": "kubernetes.io/arch", "operator": "Exists"}},
	}
	require.NoError(t, c.Client.Create(t.Context(), claim))
	deleteAtEnd(t, c, claim)
	applyCondition(t, c, claim.GetName(), "karpenter", "Launched")
	applyCondition(t, c, claim.GetName(), conditions.FieldManager, v1alpha1.ConditionUnhealthy)
	guarded := node("guarded", map[string]string{karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.GuardedAnnotation: "true", "example.com/kept": "1"})
	vetoed := node("vetoed", map[string]string{karpv1.DoNotRepairAnnotationKey: "true", v1alpha1.VetoAnnotation: "true", v1alpha1.RepairRequestAnnotation: "Replace"})
	for _, n := range []*corev1.Node{guarded, vetoed} {
		require.NoError(t, c.Client.Create(t.Context(), n))
		deleteAtEnd(t, c, n)
	}
	t.Cleanup(func() { installAgain(t, c) })

	runWithKubectl(t, removal.Text)

	left := &karpv1.NodeClaim{}
	require.NoError(t, c.Client.Get(t.Context(), client.ObjectKeyFromObject(claim), left))
	require.Equal(t, []string{"Launched"}, lo.Map(left.Status.Conditions, func(c status.Condition, _ int) string { return c.Type }))
	require.Equal(t, map[string]string{"example.com/kept": "1"}, annotationsOf(t, c, "guarded"))
	require.Equal(t, map[string]string{karpv1.DoNotRepairAnnotationKey: "true"}, annotationsOf(t, c, "vetoed"), "Karpenter's word of a person stays")
	crds := &apiextensionsv1.CustomResourceDefinitionList{}
	require.NoError(t, c.Client.List(t.Context(), crds))
	for i := range crds.Items {
		require.NotEqual(t, v1alpha1.Group, crds.Items[i].Spec.Group, crds.Items[i].Name)
	}
}

// installAgain brings our definitions back for the tests that follow.
func installAgain(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx := context.Background() // that of the test is over
	require.NoError(t, c.InstallCRDs(ctx))
	// They are served a moment after they are established.
	require.Eventually(t, func() bool {
		return c.Client.List(ctx, &v1alpha1.RepairPolicyList{}) == nil && c.Client.List(ctx, &v1alpha1.NodeHealthList{}) == nil &&
			c.Client.List(ctx, &v1alpha1.NodeRepairList{}) == nil && c.Client.List(ctx, &v1alpha1.RepairPauseList{}) == nil
	}, 30*time.Second, 100*time.Millisecond)
}

func unstructuredOf(apiVersion, kind, name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion(apiVersion)
	object.SetKind(kind)
	object.SetName(name)
	return object
}

func node(name string, annotations map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
}

func annotationsOf(t *testing.T, c *cluster.Cluster, name string) map[string]string {
	t.Helper()
	n := &corev1.Node{}
	require.NoError(t, c.Client.Get(t.Context(), client.ObjectKey{Name: name}, n))
	// The control plane's own.
	return lo.OmitBy(n.Annotations, func(key, _ string) bool { return strings.Contains(key, "kubernetes.io/") })
}

func applyCondition(t *testing.T, c *cluster.Cluster, name, manager, conditionType string) {
	t.Helper()
	object := unstructuredOf("karpenter.sh/v1", "NodeClaim", name)
	object.Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": conditionType, "status": "True", "reason": "Test", "message": "m", "lastTransitionTime": "2026-01-02T12:00:00Z",
	}}}
	require.NoError(t, c.Client.Status().Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(manager)))
}

// runWithKubectl runs a script whose kubectl is that of the local cluster.
func runWithKubectl(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	localcluster, err := cluster.Binary("localcluster")
	require.NoError(t, err)
	shim := fmt.Sprintf("#!/bin/sh\nexec %s --name=%s kubectl \"$@\"\n", localcluster, real.Name)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubectl"), []byte(shim), 0o700)) //nolint:gosec // it has to be run
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Log(string(out))
}
