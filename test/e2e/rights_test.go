package e2e

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// At the end of all tests here what the controller has asked the API server for is compared with what its roles list.
// The tests below walk ways that the others do not.

// unusedRights are those of the controller that the audit log cannot show, and why it has them.
var unusedRights = map[string]string{
	"update nodepools/finalizers.karpenter.sh": "asked for by the admission plugin OwnerReferencesPermissionEnforcement, which is no request of its own; " +
		"see TestReplacementsNeedTheRightToHoldUpTheEndOfTheirNodePool",
	"create leases.coordination.k8s.io in autorepair": "needed where somebody has deleted the chart's Lease, as the tests of two replicas in test/chaos do",
}

// setenv gives what puts the variable back.
func setenv(name, value string) (restore func()) {
	before, was := os.LookupEnv(name)
	_ = os.Setenv(name, value)
	return func() {
		if was {
			_ = os.Setenv(name, before)
		} else {
			_ = os.Unsetenv(name)
		}
	}
}

func TestReplacementsNeedTheRightToHoldUpTheEndOfTheirNodePool(t *testing.T) {
	t.Parallel()
	s := begin(t, "owner-rights")
	pool := cluster.NodePool(s.name)
	require.NoError(t, s.c.Create(s.ctx, pool))
	almost := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"karpenter.sh"}, Resources: []string{"nodeclaims"}, Verbs: []string{"create"}},
	}}
	account := client.ObjectKey{Namespace: s.name, Name: s.name}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: s.name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
	}
	require.NoError(t, s.c.Create(s.ctx, almost, binding, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace, Name: account.Name}}))
	t.Cleanup(func() {
		_ = s.c.Client.Delete(s.ctx, almost)
		_ = s.c.Client.Delete(s.ctx, binding)
	})
	try := func(as client.ObjectKey) error {
		token, err := s.c.Token(s.ctx, as, nil)
		require.NoError(t, err)
		with, err := s.c.ClientWith(token, rest.ImpersonationConfig{})
		require.NoError(t, err)
		claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: s.name, OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "karpenter.sh/v1", Kind: "NodePool", Name: pool.Name, UID: pool.UID, BlockOwnerDeletion: new(true),
		}}}}
		claim.Spec.NodeClassRef = pool.Spec.Template.Spec.NodeClassRef
		claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{}
		return with.Create(s.ctx, claim, client.DryRunAll) //nolint:wrapcheck // a test's
	}
	s.eventually("who may make NodeClaims may not make one that holds up the end of a NodePool", func() error {
		err := try(account)
		if !apierrors.IsForbidden(err) {
			return errors.Join(errors.New("it was not forbidden"), err)
		}
		require.ErrorContains(t, err, "blockOwnerDeletion")
		return nil
	})
	require.NoError(t, try(cluster.ServiceAccount), "and the controller may")
}

func TestASilentNodeIsComparedWithTheOthers(t *testing.T) {
	t.Parallel()
	s := begin(t, "silent")
	// Nobody writes the status of this Node, as with a kubelet that never came up.
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "silent", Labels: map[string]string{karpv1.NodePoolLabelKey: s.name}}}
	require.NoError(t, s.c.Create(s.ctx, node))
	t.Cleanup(func() { _ = s.c.Client.Delete(s.ctx, node) })
	require.NoError(t, s.c.SetNodeCondition(s.ctx, node.Name, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", Message: "silent"}))
	s.eventually("the NodeHealth speaks of its kubelet", func() error {
		health := &v1alpha1.NodeHealth{}
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: node.Name}, health); err != nil {
			return err //nolint:wrapcheck // a test's
		}
		if len(health.Findings) == 0 {
			return errors.New("it has no findings")
		}
		return nil
	})
}

func TestOldHistoryIsRemoved(t *testing.T) {
	t.Parallel()
	s := begin(t, "history")
	old := metav1.NewTime(time.Now().Add(-365 * 24 * time.Hour))
	made := func() *v1alpha1.NodeRepair {
		repair := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{GenerateName: s.name + "-"}}
		repair.Spec = v1alpha1.NodeRepairSpec{
			NodeClaim: v1alpha1.NodeClaimReference{Name: "long-gone", UID: "9d5be6ab-0000-4000-8000-000000000000"}, Action: v1alpha1.ActionReplace,
			Cause:  v1alpha1.RepairCause{Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Since: old},
			Policy: v1alpha1.PolicyReference{Name: "gone", Rule: "all"},
		}
		require.NoError(t, s.c.Create(s.ctx, repair))
		t.Cleanup(func() { _ = s.c.Client.Delete(context.Background(), repair) })
		return repair
	}
	repair := made()
	s.eventually("it is gone", func() error {
		err := s.c.Client.Get(s.ctx, client.ObjectKeyFromObject(repair), repair)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			repair.Status.Phase, repair.Status.FinishedAt = v1alpha1.PhaseSucceeded, &old
			err = s.c.Client.Status().Update(s.ctx, repair)
		}
		made() // the controller looks a while after a NodeRepair has been made, and every ten minutes
		time.Sleep(6 * time.Second)
		return errors.Join(errors.New("it was still there"), err)
	})
}
