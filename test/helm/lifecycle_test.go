package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// withoutOperator leaves out the kinds of the Prometheus operator, which the cluster has not.
const withoutOperator = "--set=metrics.podMonitor.enabled=false,metrics.prometheusRule.enabled=false"

func TestInstallUpgradeRollbackAndUninstallLeaveNothingBehind(t *testing.T) {
	c := withNodes(t)
	before := untouched(t)
	install(t)
	told(t)
	require.Equal(t, before, untouched(t), "after the installation")

	for _, name := range []string{"eks", "eks-node-monitoring-agent", "minimal", "everything"} {
		helm(t, append([]string{"upgrade", "autorepair", chart("autorepair"), "--wait", "--timeout=4m", withoutOperator}, presets[name]...)...)
		told(t)
		require.Equal(t, before, untouched(t), "after the upgrade to %s", name)
		namespacesSettle(t)
	}
	require.Equal(t, int32(3), ready(t), "as everything has it")

	helm(t, "rollback", "autorepair", "1", "--wait", "--timeout=4m")
	told(t)
	require.Equal(t, int32(2), ready(t), "as at first")
	require.Equal(t, before, untouched(t), "after the rollback")

	helm(t, "uninstall", "autorepair", "--wait", "--timeout=4m")
	helm(t, "uninstall", "autorepair-crd", "--wait")
	require.Equal(t, before, untouched(t), "after the uninstallation")
	suite.Within(t.Context(), t, patience, "the namespace of the agents is gone", func() error {
		if err := c.Client.Get(t.Context(), cluster.AgentServiceAccount, &corev1.ServiceAccount{}); client.IgnoreNotFound(err) != nil || err == nil {
			return errors.Join(errors.New("its ServiceAccount is there"), err)
		}
		return client.IgnoreAlreadyExists(gone(t, "node-agents", "autorepair-agent"))
	})
	// What stays is what the README says: the definitions, with their objects.
	require.NoError(t, dropDefinitions(t.Context()))
	_, err := c.Kubectl(t.Context(), "delete", "namespace", "autorepair") // --create-namespace made it
	require.NoError(t, err)
	require.Empty(t, ofOurs(t))
	require.Equal(t, before, untouched(t), "at the end")
}

// dropDefinitions as the README says.
func dropDefinitions(ctx context.Context) error {
	definitions, err := cluster.Definitions()
	if err != nil {
		return err
	}
	args := []string{"delete", "crd"}
	for _, definition := range definitions {
		args = append(args, definition.GetName())
	}
	_, err = shared.Kubectl(ctx, args...)
	return err
}

// gone gives an error while one of the namespaces is there.
func gone(t *testing.T, names ...string) error {
	t.Helper()
	for _, name := range names {
		if err := shared.Client.Get(t.Context(), client.ObjectKey{Name: name}, &corev1.Namespace{}); client.IgnoreNotFound(err) != nil || err == nil {
			return errors.Join(fmt.Errorf("namespace %s is there", name), err)
		}
	}
	return nil
}

func ready(t *testing.T) int32 {
	t.Helper()
	d := &appsv1.Deployment{}
	require.NoError(t, shared.Client.Get(t.Context(), cluster.ServiceAccount, d))
	return d.Status.ReadyReplicas
}

// A node is fenced and its replacement does not come; in the middle of that the release is uninstalled.
func TestAnUninstallInTheMiddleOfARepairLeavesNoFence(t *testing.T) {
	for name, test := range map[string]struct {
		before func(t *testing.T)
		// withdrawn says that the replacement is taken back, and not only released.
		withdrawn bool
	}{
		"the controller lets go of it": {before: func(*testing.T) {}, withdrawn: true},
		"no controller runs any more": {before: func(t *testing.T) {
			_, err := shared.Kubectl(t.Context(), "scale", "--namespace=autorepair", "deployment/autorepair-controller", "--replicas=0")
			require.NoError(t, err)
			suite.Within(t.Context(), t, patience, "no controller", func() error {
				pods := &corev1.PodList{}
				err := shared.Client.List(t.Context(), pods, client.InNamespace("autorepair"))
				if err == nil && len(pods.Items) > 0 {
					err = fmt.Errorf("there are %d pods", len(pods.Items))
				}
				return err
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := withNodes(t)
			install(t, "--set=agent.enabled=false", `--set-json=repairPolicies={"workload":{"weight":10,"rules":[{"name":"all","match":{"reasonPattern":".*"},"tolerate":"1s","drainBound":"1m"}],"correlatedFailure":{"maxUnhealthy":"100%"}}}`)
			told(t)
			require.NoError(t, c.Client.DeleteAllOf(t.Context(), &v1alpha1.NodeRepair{})) // the history of another test
			before := untouched(t)
			sick := claimsOf(t)[0]
			require.NoError(t, c.Part(t.Context(), "stop", "karpenter"))
			t.Cleanup(func() { require.NoError(t, c.Part(context.Background(), "start", "karpenter")) })
			require.NoError(t, c.Break(t.Context(), sick.Status.NodeName))
			suite.Within(t.Context(), t, patience, "the node is fenced and its replacement awaited", func() error { return phaseIs(t, v1alpha1.PhaseProvisioning) })
			require.NotEqual(t, before, untouched(t), "the fence")
			test.before(t)

			helm(t, "uninstall", "autorepair", "--wait", "--timeout=4m")
			left, err := c.Leftovers(t.Context())
			require.NoError(t, err)
			require.Empty(t, left)
			require.NoError(t, phaseIs(t, v1alpha1.PhaseCanceled))
			after := untouched(t)
			for what, state := range before {
				require.Equal(t, state, after[what], what)
			}
			for _, claim := range claimsOf(t) {
				require.NotContains(t, strings.Join(conditionsOf(claim), " "), v1alpha1.Group)
				require.NotContains(t, claim.Labels, v1alpha1.NodeRepairLabel)
				if _, old := before["NodeClaim "+claim.Name]; !old {
					require.False(t, test.withdrawn && claim.DeletionTimestamp.IsZero(), "the replacement %s stays", claim.Name)
				}
			}
			require.NoError(t, c.Heal(t.Context(), sick.Status.NodeName))
		})
	}
}

// phaseIs gives an error where no repair is in that phase, with a replacement made where it has not ended.
func phaseIs(t *testing.T, phase v1alpha1.Phase) error {
	t.Helper()
	repairs := &v1alpha1.NodeRepairList{}
	if err := shared.Client.List(t.Context(), repairs, client.MatchingLabels{v1alpha1.NodePoolLabel: pool}); err != nil {
		return err
	}
	var phases []v1alpha1.Phase
	for _, r := range repairs.Items {
		if r.Status.Phase == phase && (phase.Finished() || len(r.Status.Replacements) > 0) {
			return nil
		}
		phases = append(phases, r.Status.Phase)
	}
	return fmt.Errorf("no NodeRepair is %s: %v", phase, phases)
}

// The API server takes every object of every preset, with no field that it does not know.
func TestTheAPIServerTakesEveryPreset(t *testing.T) {
	suite.Need(t)
	require.NoError(t, shared.InstallCRDs(t.Context()))
	t.Cleanup(func() { require.NoError(t, dropDefinitions(context.Background())) })
	for _, namespace := range []string{"autorepair", "autorepair-agent", "node-agents"} {
		require.NoError(t, shared.EnsureNamespace(t.Context(), namespace))
	}
	for name, args := range presets {
		t.Run(name, func(t *testing.T) {
			for _, object := range rendered(t, append(args, withoutOperator)...) {
				err := shared.Client.Create(t.Context(), object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
				require.NoError(t, client.IgnoreAlreadyExists(err), "%s %s", object.GetKind(), object.GetName())
			}
		})
	}
}

// namespacesSettle waits until no namespace is on its way out: nothing can be made in one that is, and Helm waits for what
// it makes, not for what it deletes.
func namespacesSettle(t *testing.T) {
	t.Helper()
	suite.Within(t.Context(), t, patience, "no namespace is being deleted", func() error {
		namespaces := &corev1.NamespaceList{}
		if err := shared.Client.List(t.Context(), namespaces); err != nil {
			return err
		}
		for i := range namespaces.Items {
			if !namespaces.Items[i].DeletionTimestamp.IsZero() {
				return fmt.Errorf("%s is", namespaces.Items[i].Name)
			}
		}
		return nil
	})
}
