package helm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// patience is how long an expected thing may take; generous, since the machine may be slow.
const patience = 2 * time.Minute

// pool is the NodePool whose nodes are there before the release and after it.
const pool = "workload"

// withNodes gives a cluster with two nodes of Karpenter's, and one that is not, for the controllers.
func withNodes(t *testing.T) *cluster.Cluster {
	t.Helper()
	suite.Need(t)
	needHelm(t)
	ctx := t.Context()
	startKubelet(t, shared)
	require.NoError(t, shared.EnsureNamespace(ctx, pool))
	require.NoError(t, shared.Create(ctx, cluster.NodeClass(pool), cluster.NodePool(pool), cluster.Deployment(pool, pool, 2)))
	t.Cleanup(func() { takeDown(t) })
	suite.Within(ctx, t, patience, "two nodes", func() error {
		claims := claimsOf(t)
		for _, claim := range claims {
			if !claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
				return fmt.Errorf("NodeClaim %s is not Initialized", claim.Name)
			}
		}
		if len(claims) != 2 {
			return fmt.Errorf("there are %d NodeClaims", len(claims))
		}
		return nil
	})
	return shared
}

func takeDown(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	for _, object := range []client.Object{cluster.Deployment(pool, pool, 2), cluster.NodePool(pool), cluster.NodeClass(pool)} {
		require.NoError(t, client.IgnoreNotFound(shared.Client.Delete(ctx, object)))
	}
	suite.Within(ctx, t, patience, "the nodes are gone", func() error {
		if claims := claimsOf(t); len(claims) > 0 {
			return fmt.Errorf("there are %d NodeClaims", len(claims))
		}
		return nil
	})
}

func claimsOf(t *testing.T) []karpv1.NodeClaim {
	t.Helper()
	list := &karpv1.NodeClaimList{}
	require.NoError(t, shared.Client.List(context.Background(), list))
	return list.Items
}

// helm runs Helm on the cluster and gives what it says.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cluster.Helm(t.Context(), append(args, "--kubeconfig="+shared.Kubeconfig, "--namespace=autorepair")...)
	require.NoError(t, err)
	return out
}

// install does what the README of the chart says.
func install(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() { // where the test has failed
		_, _ = cluster.Helm(context.Background(), "uninstall", "autorepair", "--no-hooks", "--ignore-not-found", "--kubeconfig="+shared.Kubeconfig, "--namespace=autorepair")
	})
	helm(t, "upgrade", "--install", "autorepair-crd", chart("autorepair-crd"), "--create-namespace")
	helm(t, append([]string{"install", "autorepair", chart("autorepair"), "--wait", "--timeout=4m"}, args...)...)
	_, err := shared.Kubectl(t.Context(), "label", "--overwrite", "namespace", "autorepair", "pod-security.kubernetes.io/enforce=restricted")
	require.NoError(t, err)
}

// told waits until every NodeClaim says how its node is: the controller works, with the rights that the chart gives it.
func told(t *testing.T) {
	t.Helper()
	suite.Within(t.Context(), t, patience, "every NodeClaim says how its node is", func() error {
		for _, claim := range claimsOf(t) {
			if !slices.ContainsFunc(conditionsOf(claim), isOurs) {
				return fmt.Errorf("NodeClaim %s says nothing", claim.Name)
			}
		}
		return nil
	})
}

func conditionsOf(claim karpv1.NodeClaim) (types []string) {
	for _, c := range claim.Status.Conditions {
		types = append(types, c.Type)
	}
	return types
}

func isOurs(key string) bool { return strings.HasPrefix(key, v1alpha1.Group+"/") }

// untouched gives, of every NodeClaim and Node of Karpenter's, what nobody but Karpenter may change.
func untouched(t *testing.T) map[string]any {
	t.Helper()
	state := map[string]any{}
	nodes := &corev1.NodeList{}
	require.NoError(t, shared.Client.List(context.Background(), nodes, client.HasLabels{karpv1.NodePoolLabelKey}))
	for _, n := range nodes.Items {
		state["Node "+n.Name] = []any{n.UID, n.Labels, n.Annotations, n.Spec, n.Finalizers, n.DeletionTimestamp}
	}
	for _, claim := range claimsOf(t) {
		conditions := slices.DeleteFunc(conditionsOf(claim), isOurs)
		slices.Sort(conditions)
		state["NodeClaim "+claim.Name] = []any{claim.UID, claim.Generation, claim.Labels, claim.Annotations, claim.Spec, claim.Finalizers, claim.OwnerReferences, claim.DeletionTimestamp, conditions}
	}
	return state
}

// ofOurs lists every object of the cluster, of whichever kind, that is ours by its name, its labels or what it belongs
// to, and whatever of ours stands on an object of somebody else.
func ofOurs(t *testing.T) (found []string) {
	t.Helper()
	for _, kind := range kinds(t) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := shared.Client.List(context.Background(), list); err != nil {
			continue // a kind that cannot be listed, or that has just gone
		}
		for _, object := range list.Items {
			if marks := marksOf(&object); len(marks) > 0 {
				found = append(found, fmt.Sprintf("%s %s/%s: %s", kind.Kind, object.GetNamespace(), object.GetName(), strings.Join(marks, ", ")))
			}
		}
	}
	return found
}

// marksOf says by what an object is ours.
func marksOf(object *unstructured.Unstructured) (marks []string) {
	if strings.Contains(object.GetName(), "autorepair") || strings.Contains(object.GetAPIVersion(), v1alpha1.Group) {
		marks = append(marks, "its name or kind")
	}
	for _, keys := range []map[string]string{object.GetLabels(), object.GetAnnotations()} {
		for key, value := range keys {
			if isOurs(key) || key == "app.kubernetes.io/part-of" && value == "autorepair" {
				marks = append(marks, key)
			}
		}
	}
	taints, _, _ := unstructured.NestedSlice(object.Object, "spec", "taints")
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, entry := range append(taints, conditions...) {
		fields, _ := entry.(map[string]any)
		for _, name := range []string{"key", "type"} {
			if text, _ := fields[name].(string); isOurs(text) {
				marks = append(marks, text)
			}
		}
	}
	return marks
}

// passing are kinds that go by themselves, or that the API server warns of for their age and keeps beside newer ones.
var passing = []string{"Event", "Endpoints", "ComponentStatus"}

// kinds of the API server.
func kinds(t *testing.T) (all []schema.GroupVersionKind) {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(shared.Config)
	require.NoError(t, err)
	lists, err := d.ServerPreferredResources()
	require.NoError(t, err)
	for _, list := range lists {
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") && !slices.Contains(passing, r.Kind) {
				all = append(all, schema.FromAPIVersionAndKind(list.GroupVersion, r.Kind))
			}
		}
	}
	return all
}
