// Package insideaws runs Karpenter for AWS, built with our Method inside, on a local cluster and against an EC2 on
// loopback: its own main, the SDK's real wiring, and the rights that Karpenter's chart gives it with the values that the
// documentation shows. The kubelets of the instances are the test's.
package insideaws

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	awsv1 "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/docs"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeaws"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

const (
	pool     = "insideaws"
	replicas = 3
)

func TestKarpenterForAWSRepairsByOurMethod(t *testing.T) {
	suite.Need(t)
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	aws := fakeaws.New()
	t.Cleanup(aws.Close)
	c, program := up(ctx, t, aws)
	happened := follow(ctx, t, c, aws)
	start(ctx, t, c)

	// Two of three break, and the budget is one.
	before := claims(ctx, t, c)
	sick := before[:2]
	for _, claim := range sick {
		require.NoError(t, c.Break(ctx, claim.Status.NodeName))
	}
	eventually(ctx, t, "the sick nodes are replaced, and their instances have ended", func() error {
		now := claims(ctx, t, c)
		if stand := lo.Filter(now, func(n karpv1.NodeClaim, _ int) bool { return isOneOf(n, sick) }); len(stand) > 0 || len(now) != replicas {
			return fmt.Errorf("%d sick ones stand, of %d", len(stand), len(now))
		}
		if running := running(aws); len(running) != replicas {
			return fmt.Errorf("%d instances run", len(running))
		}
		return available(ctx, c)
	})
	log := happened()
	for _, claim := range sick {
		inOrder(t, log, claim)
	}
	require.Equal(t, 1, atOnce(log), "as many at once as the budget admits, and never more:\n%s", strings.Join(lo.Map(log, func(e event, _ int) string { return e.String() }), "\n"))
	require.True(t, isOneOf(before[2], claims(ctx, t, c)), "the healthy node stays")
	nothingElse(ctx, t, c, aws)

	t.Run("a node that recovers within its toleration stays", func(t *testing.T) {
		policy := &v1alpha1.RepairPolicy{}
		require.NoError(t, c.Client.Get(ctx, client.ObjectKey{Name: pool}, policy))
		policy.Spec.Rules[0].Tolerate.Duration = 15 * time.Second
		require.NoError(t, c.Client.Update(ctx, policy))
		healthy, changes := claims(ctx, t, c), len(aws.Changes())
		require.NoError(t, c.Break(ctx, healthy[0].Status.NodeName))
		time.Sleep(3 * time.Second)
		require.NoError(t, c.Heal(ctx, healthy[0].Status.NodeName))
		time.Sleep(27 * time.Second) // the toleration, and one of Karpenter's rounds of 10 s
		require.ElementsMatch(t, uids(healthy), uids(claims(ctx, t, c)))
		require.Len(t, aws.Changes(), changes, "nothing is launched and nothing ended")
	})
	t.Run("a node whose rule says so is rebooted by EC2", func(t *testing.T) { rebootsInstead(ctx, t, c, aws) })
	require.Empty(t, aws.Unknown(), "the endpoint knows every call")
	text, err := os.ReadFile(program.Log)
	require.NoError(t, err)
	require.Empty(t, lo.Filter(strings.Split(string(text), "\n"), func(line string, _ int) bool { return strings.Contains(line, "forbidden") }),
		"the documented rights are enough")
}

// rebootsInstead requires that a node whose rule says so is rebooted by EC2, and stays.
func rebootsInstead(ctx context.Context, t *testing.T, c *cluster.Cluster, aws *fakeaws.AWS) {
	policy := &v1alpha1.RepairPolicy{}
	require.NoError(t, c.Client.Get(ctx, client.ObjectKey{Name: pool}, policy))
	policy.Spec.Rules[0].Tolerate.Duration, policy.Spec.Rules[0].Action = time.Second, v1alpha1.ActionReboot
	require.NoError(t, c.Client.Update(ctx, policy))
	before, changes := claims(ctx, t, c), len(aws.Changes())
	sick := before[0]
	require.NoError(t, c.Break(ctx, sick.Status.NodeName))
	eventually(ctx, t, "the node has been rebooted", func() error {
		claim := &karpv1.NodeClaim{}
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(&sick), claim); err != nil {
			return err
		}
		conditions := claim.StatusConditions(status.WithObservedOnly())
		if rebooting := conditions.Get(karpv1.ConditionTypeRebooting); rebooting == nil || rebooting.Reason != karpv1.RebootReasonSucceeded {
			return fmt.Errorf("it says of the reboot %+v", rebooting)
		}
		if !conditions.Get(karpv1.ConditionTypeInitialized).IsTrue() {
			return errors.New("it is not Initialized again")
		}
		return available(ctx, c)
	})
	require.ElementsMatch(t, uids(before), uids(claims(ctx, t, c)))
	require.Equal(t, []string{"ec2:RebootInstances " + filepath.Base(sick.Status.ProviderID)}, lo.Map(aws.Changes()[changes:], func(c fakeaws.Change, _ int) string {
		return c.Action + " " + strings.Join(c.Instances, ",")
	}), "nothing is launched and nothing ended")
}

// inOrder requires of a sick node what makes a repair: it is chosen for being unhealthy, an instance is launched, the
// node of that instance is initialized, and only then the sick one is deleted, and its instance ended.
func inOrder(t *testing.T, log []event, sick karpv1.NodeClaim) {
	t.Helper()
	instance := filepath.Base(sick.Status.ProviderID)
	at := 0
	next := func(what string, is func(event) bool) event {
		t.Helper()
		found := slices.IndexFunc(log[at:], is)
		require.GreaterOrEqual(t, found, 0, "%s (%s): not found, or not in this order: %s\n%s", sick.Name, instance, what,
			strings.Join(lo.Map(log, func(e event, _ int) string { return e.String() }), "\n"))
		at += found + 1
		return log[at-1]
	}
	next("chosen", func(e event) bool { return e.what == chosen && e.who == sick.Name })
	launched := next("CreateFleet", func(e event) bool { return e.what == "ec2:CreateFleet" })
	next("the new node is Initialized", func(e event) bool { return e.what == initialized && e.instance == launched.who })
	next("deleted", func(e event) bool { return e.what == deleted && e.who == sick.Name })
	next("TerminateInstances", func(e event) bool { return e.what == "ec2:TerminateInstances" && e.who == instance })
}

// nothingElse requires that the repairs were Karpenter's own commands, and that no call went unseen.
func nothingElse(ctx context.Context, t *testing.T, c *cluster.Cluster, aws *fakeaws.AWS) {
	t.Helper()
	repairs := &v1alpha1.NodeRepairList{}
	require.NoError(t, c.Client.List(ctx, repairs))
	require.Empty(t, repairs.Items, "Karpenter's own queue is at work, no NodeRepair")
	require.Empty(t, aws.Unknown(), "the endpoint knows every call")
	for _, instance := range aws.Instances() {
		require.Equal(t, "c5.large", instance.Type, "the cheapest that the pods fit, by EC2's own types and prices")
		require.Equal(t, []string{fakeaws.SecurityGroup}, instance.SecurityGroups)
	}
	policy := &v1alpha1.RepairPolicy{}
	require.NoError(t, c.Client.Get(ctx, client.ObjectKey{Name: pool}, policy))
	require.NotEmpty(t, policy.Status.Conditions, "the policy is said to be usable or not")
}

// up starts the cluster with all CRDs in place, then Karpenter.
func up(ctx context.Context, t *testing.T, aws *fakeaws.AWS) (*cluster.Cluster, *cluster.Program) {
	t.Helper()
	c, err := cluster.Up(ctx, cluster.Options{Name: pool, Karpenter: "none"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Down(context.WithoutCancel(ctx))) })
	require.NoError(t, c.Install(ctx))
	require.NoError(t, c.Create(ctx, fakeaws.NodeClassCRD()))
	program, err := c.StartKarpenterAWS(ctx, documentedValues(t), append(aws.Env(), "CLUSTER_ENDPOINT="+c.Config.Host)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(program.Log)
			objects, _ := c.Kubectl(context.WithoutCancel(ctx), "get", "ec2nodeclasses,nodepools,nodeclaims,nodes", "-o=yaml")
			t.Logf("Karpenter's log:\n%s\n%s\nunknown calls: %v", text[max(0, len(text)-8000):], objects, aws.Unknown())
		}
		require.NoError(t, program.Stop())
	})
	return c, program
}

// documentedValues of Karpenter's chart, as a file.
func documentedValues(t *testing.T) string {
	t.Helper()
	root, err := cluster.Root()
	require.NoError(t, err)
	blocks, err := docs.Blocks(root, "docs/inside-karpenter.md")
	require.NoError(t, err)
	block, found := lo.Find(blocks, func(b docs.Block) bool { return strings.HasPrefix(b.Text, "# karpenter-values.yaml\n") })
	require.True(t, found, "docs/inside-karpenter.md shows the values of Karpenter's chart")
	path := filepath.Join(t.TempDir(), "karpenter-values.yaml")
	require.NoError(t, os.WriteFile(path, []byte(block.Text), 0o600))
	return path
}

func start(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	require.NoError(t, c.EnsureNamespace(ctx, pool))
	class := &awsv1.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: pool}, Spec: awsv1.EC2NodeClassSpec{
		AMIFamily: lo.ToPtr(awsv1.AMIFamilyCustom), AMISelectorTerms: []awsv1.AMISelectorTerm{{ID: fakeaws.Image}},
		SubnetSelectorTerms:        []awsv1.SubnetSelectorTerm{{ID: fakeaws.SubnetA}, {ID: fakeaws.SubnetB}},
		SecurityGroupSelectorTerms: []awsv1.SecurityGroupSelectorTerm{{ID: fakeaws.SecurityGroup}},
		InstanceProfile:            lo.ToPtr("nodes"),
	}}
	ofEC2 := func(n *karpv1.NodePool) {
		n.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: pool}
	}
	require.NoError(t, c.Create(ctx, cluster.RepairPolicy(pool), class, cluster.NodePool(pool, ofEC2), cluster.Deployment(pool, pool, replicas)))
	eventually(ctx, t, "the nodes stand", func() error {
		if err := available(ctx, c); err != nil {
			return err
		}
		// Karpenter writes the Node's label before the NodeClaim's status.
		for _, claim := range claims(ctx, t, c) {
			if claim.Status.NodeName == "" {
				return errors.New(claim.Name + " names no node")
			}
		}
		return nil
	})
}

func available(ctx context.Context, c *cluster.Cluster) error {
	is, err := c.AvailablePods(ctx, pool, pool)
	if err != nil {
		return err
	}
	if is != replicas {
		return fmt.Errorf("%d of %d pods are available", is, replicas)
	}
	return nil
}

func claims(ctx context.Context, t *testing.T, c *cluster.Cluster) []karpv1.NodeClaim {
	t.Helper()
	claims, err := c.NodeClaims(ctx, pool)
	require.NoError(t, err)
	return claims
}

func isOneOf(claim karpv1.NodeClaim, of []karpv1.NodeClaim) bool {
	return slices.Contains(uids(of), string(claim.UID))
}

func uids(list []karpv1.NodeClaim) []string {
	return lo.Map(list, func(n karpv1.NodeClaim, _ int) string { return string(n.UID) })
}

func running(aws *fakeaws.AWS) []fakeaws.Instance {
	return lo.Filter(aws.Instances(), func(i fakeaws.Instance, _ int) bool { return i.State() == fakeaws.Running })
}

func eventually(ctx context.Context, t *testing.T, what string, holds func() error) {
	t.Helper()
	suite.Within(ctx, t, 3*time.Minute, what, holds)
}
