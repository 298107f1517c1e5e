// Package inside runs a Karpenter that was built with our Method inside, on a local cluster.
package inside

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

const pool = "inside"

func TestKarpenterRepairsByOurMethod(t *testing.T) {
	suite.Need(t)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	c := up(ctx, t)
	start(ctx, t, c)
	var before []karpv1.NodeClaim
	eventually(ctx, t, "four NodeClaims name their node", func() error {
		before = claims(ctx, t, c)
		// Karpenter writes the Node's label before the NodeClaim's status.
		if named := lo.CountBy(before, func(n karpv1.NodeClaim) bool { return n.Status.NodeName != "" }); len(before) != 4 || named != 4 {
			return fmt.Errorf("%d NodeClaims, of which %d name their node", len(before), named)
		}
		return nil
	})

	// Three of four break, and the budget is two.
	sick := before[:3]
	for _, claim := range sick {
		require.NoError(t, c.Break(ctx, claim.Status.NodeName))
	}
	var most, replaced int
	eventually(ctx, t, "the sick nodes are replaced", func() error {
		now := claims(ctx, t, c)
		names := lo.SliceToMap(now, func(n karpv1.NodeClaim) (string, karpv1.NodeClaim) { return n.Name, n })
		replaced = lo.CountBy(sick, func(n karpv1.NodeClaim) bool { _, stands := names[n.Name]; return !stands })
		most = max(most, lo.CountBy(now, func(n karpv1.NodeClaim) bool { return disrupted(n) }))
		if replaced < len(sick) || len(now) != len(before) {
			return fmt.Errorf("%d of %d are gone, %d NodeClaims stand", replaced, len(sick), len(now))
		}
		return available(ctx, c, int32(len(before)))
	})
	require.Equal(t, 2, most, "as many at once as the budget admits, and never more")
	require.Contains(t, lo.Map(claims(ctx, t, c), func(n karpv1.NodeClaim, _ int) string { return n.Name }), before[3].Name,
		"the healthy node stays")
	repairs := &v1alpha1.NodeRepairList{}
	require.NoError(t, c.Client.List(ctx, repairs))
	require.Empty(t, repairs.Items, "Karpenter's own queue is at work, no NodeRepair")

	t.Run("a node that recovers within its toleration stays", func(t *testing.T) {
		policy := &v1alpha1.RepairPolicy{}
		require.NoError(t, c.Client.Get(ctx, client.ObjectKey{Name: pool}, policy))
		policy.Spec.Rules[0].Tolerate.Duration = 15 * time.Second
		require.NoError(t, c.Client.Update(ctx, policy))
		healthy := claims(ctx, t, c)
		require.NoError(t, c.Break(ctx, healthy[0].Status.NodeName))
		time.Sleep(3 * time.Second)
		require.NoError(t, c.Heal(ctx, healthy[0].Status.NodeName))
		time.Sleep(27 * time.Second) // the toleration, and one of Karpenter's rounds of 10 s
		require.ElementsMatch(t, uids(healthy), uids(claims(ctx, t, c)))
	})
}

// up starts the cluster with our CRDs in place before Karpenter looks for them.
func up(ctx context.Context, t *testing.T) *cluster.Cluster {
	t.Helper()
	binary, err := cluster.Binary("karpenter-with-method")
	require.NoError(t, err)
	plain, err := cluster.Up(ctx, cluster.Options{Name: "inside", Karpenter: "none"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, plain.Down(context.WithoutCancel(ctx))) })
	require.NoError(t, plain.Install(ctx))
	c, err := cluster.Up(ctx, cluster.Options{Name: "inside", Karpenter: binary})
	require.NoError(t, err)
	return c
}

func start(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	require.NoError(t, c.EnsureNamespace(ctx, pool))
	two := func(n *karpv1.NodePool) { n.Spec.Disruption.Budgets[0].Nodes = "2" }
	require.NoError(t, c.Create(ctx, cluster.RepairPolicy(pool), cluster.NodeClass(pool), cluster.NodePool(pool, two), cluster.Deployment(pool, pool, 4)))
	eventually(ctx, t, "the nodes stand", func() error { return available(ctx, c, 4) })
}

func available(ctx context.Context, c *cluster.Cluster, want int32) error {
	is, err := c.AvailablePods(ctx, pool, pool)
	if err != nil {
		return err
	}
	if is != want {
		return fmt.Errorf("%d of %d pods are available", is, want)
	}
	return nil
}

func claims(ctx context.Context, t *testing.T, c *cluster.Cluster) []karpv1.NodeClaim {
	t.Helper()
	claims, err := c.NodeClaims(ctx, pool)
	require.NoError(t, err)
	return claims
}

// disrupted says whether the budget counts the NodeClaim: Karpenter has marked it, or it is being deleted.
func disrupted(claim karpv1.NodeClaim) bool {
	return !claim.DeletionTimestamp.IsZero() || lo.ContainsBy(claim.GetConditions(), func(condition status.Condition) bool {
		return condition.Type == karpv1.ConditionTypeDisruptionReason && condition.IsTrue()
	})
}

func uids(list []karpv1.NodeClaim) []string {
	return lo.Map(list, func(n karpv1.NodeClaim, _ int) string { return string(n.UID) })
}

func eventually(ctx context.Context, t *testing.T, what string, holds func() error) {
	t.Helper()
	suite.Within(ctx, t, 3*time.Minute, what, holds)
}
