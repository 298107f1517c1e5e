package kubectl

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// as lets a command line be somebody else's.
func as(user string) func(*genericclioptions.ConfigFlags) {
	return func(config *genericclioptions.ConfigFlags) { config.Impersonate = &user }
}

// grant lets a user read resources, by group.
func grant(t *testing.T, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	ctx := needCluster(t)
	for i := range rules {
		rules[i].Verbs = []string{"get", "list", "watch"}
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: rules}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}
	require.NoError(t, shared.Create(ctx, role, binding))
	t.Cleanup(func() {
		for _, object := range []client.Object{role, binding} {
			require.NoError(t, shared.Client.Delete(context.Background(), object))
		}
	})
}

func TestWithoutTheKindsItSaysWhatToInstall(t *testing.T) {
	needCluster(t)
	require.ErrorContains(t, bare, "autorepair.sh: karpenter-autorepair is not installed in this cluster, or --context names another: install its charts")
}

func TestReadingIsEnoughToLook(t *testing.T) {
	ctx := needCluster(t)
	grant(t, "reader",
		rbacv1.PolicyRule{APIGroups: []string{"autorepair.sh", "karpenter.sh"}, Resources: []string{"*"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}})
	for _, command := range [][]string{{"status"}, {"history"}, {"resume"}} {
		_, errOut, err := call(ctx, as("reader"), command...)
		require.NoError(t, err, "%v", command)
		require.Empty(t, errOut, "%v", command)
	}
	_, _, err := call(ctx, as("reader"), "pause", "everything", "--yes")
	require.ErrorContains(t, err, "cannot pause all repairs in the cluster until it is resumed: RepairPause kubectl-autorepair: you may not: ask for a ClusterRole that allows it")
	pauses := &v1alpha1.RepairPauseList{}
	require.NoError(t, shared.Client.List(ctx, pauses))
	require.Empty(t, pauses.Items)
}

func TestWhatMayNotBeReadIsNamed(t *testing.T) {
	ctx := needCluster(t)
	grant(t, "half", rbacv1.PolicyRule{APIGroups: []string{"karpenter.sh"}, Resources: []string{"*"}},
		rbacv1.PolicyRule{APIGroups: []string{"autorepair.sh"}, Resources: []string{"nodehealths", "noderepairs"}})
	out, errOut, err := call(ctx, as("half"), "status")
	require.NoError(t, err)
	require.Contains(t, out, "NodePool")
	for _, resource := range []string{"nodes", "repairpolicies.autorepair.sh", "repairpauses.autorepair.sh"} {
		require.Contains(t, errOut, "Warning: you may not read "+resource+", so what depends on them is left out: ask for a ClusterRole with get, list and watch on them")
	}
	require.NotContains(t, errOut, "leases", "that the controller lives is extra")
}
