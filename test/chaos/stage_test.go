package chaos

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

const (
	// patience is how long repairs may take whatever happens to them; generous, since the machine may be slow.
	patience = 3 * time.Minute
	// budget of every NodePool here.
	budget = 1
)

// stage is one test's own NodePools, with a node each, their namespace and policies, the proxy that the controller goes
// through, and the ledger of it all.
type stage struct {
	*testing.T
	ctx    context.Context
	name   string
	pools  []string
	proxy  *proxy
	ledger *cluster.Ledger
}

// begin skips where there is no cluster, makes as many NodePools with a node and a pod each, and cleans up after the
// test.
func begin(t *testing.T, name string, pools int) *stage {
	t.Helper()
	s := beginEmpty(t, name, pools)
	for _, pool := range s.pools {
		require.NoError(t, shared.Create(s.ctx, cluster.NodeClass(pool), cluster.NodePool(pool), cluster.Deployment(name, pool, 1), policy(pool)))
	}
	s.settles()
	return s
}

// beginEmpty is begin without the NodePools and what is on them.
func beginEmpty(t *testing.T, name string, pools int) *stage {
	t.Helper()
	suite.Need(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	s := &stage{T: t, ctx: ctx, name: name}
	for i := range pools {
		s.pools = append(s.pools, fmt.Sprintf("%s-%c", name, 'a'+i))
	}
	t.Cleanup(func() {
		s.cleanUp()
		cancel()
	})
	require.NoError(t, shared.EnsureNamespace(ctx, name))
	var err error
	s.proxy, err = newProxy(shared)
	require.NoError(t, err)
	t.Cleanup(s.proxy.close)
	s.ledger, err = shared.Keep(ctx, s.pools...)
	require.NoError(t, err)
	t.Cleanup(s.ledger.Close)
	return s
}

// policy acts at once, and looks at a replacement for a second only.
func policy(pool string) *v1alpha1.RepairPolicy {
	return cluster.RepairPolicy(pool, func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Tolerate.Duration = time.Second
		p.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: time.Second}
		p.Spec.Replacement.MaxLaunching = lo.ToPtr[int32](50)
	})
}

func (s *stage) cleanUp() {
	if s.Failed() {
		s.dump()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	drop := func(o client.Object, name string) {
		o.SetName(name)
		_ = shared.Client.Delete(ctx, o)
	}
	drop(&corev1.Namespace{}, s.name)
	for _, pool := range s.pools {
		drop(&v1alpha1.RepairPolicy{}, pool)
		drop(&karpv1.NodePool{}, pool)
		// Also instances that Karpenter forgot when it was killed.
		_ = shared.Client.DeleteAllOf(ctx, &corev1.Node{}, client.MatchingLabels{karpv1.NodePoolLabelKey: pool})
		_ = shared.Client.DeleteAllOf(ctx, &karpv1.NodeClaim{}, client.MatchingLabels{karpv1.NodePoolLabelKey: pool})
		_ = shared.Client.DeleteAllOf(ctx, &v1alpha1.NodeRepair{}, client.MatchingLabels{v1alpha1.NodePoolLabel: pool})
	}
}

func (s *stage) dump() {
	for _, args := range [][]string{
		{"get", "nodeclaims", "-o", "wide"},
		{"get", "noderepairs", "-o", "yaml"},
		{"get", "pods", "-n", s.name, "-o", "wide"},
	} {
		out, err := shared.Kubectl(context.Background(), args...)
		s.Logf("kubectl %s (%v)\n%s", strings.Join(args, " "), err, out)
	}
	for _, w := range s.proxy.seen() {
		s.Logf("%s write: %s", w.At.Format("15:04:05.000"), w.What)
	}
}

// controller starts one that goes through the proxy. It elects no leader: the lease of one that was killed would hold
// up the next for 15 s, which is no part of what these tests look at.
func (s *stage) controller() *cluster.Controller {
	s.Helper()
	c, err := shared.StartControllerThrough(s.ctx, s.proxy.server.URL, s.proxy.ca(), "--leader-elect=false")
	require.NoError(s, err)
	s.Cleanup(c.Kill)
	return c
}

func (s *stage) eventually(what string, check func() error) {
	s.Helper()
	if err := s.ledger.Wait(patience, check); err != nil {
		s.Fatalf("after %s not yet: %s: %v", patience, what, err)
	}
}

// breaks makes the nodes of NodePools sick, and gives their NodeClaims.
func (s *stage) breaks(pools ...string) []karpv1.NodeClaim {
	s.Helper()
	var broken []karpv1.NodeClaim
	for _, pool := range pools {
		claim, ok := lo.Find(s.ledger.Claims(), func(c karpv1.NodeClaim) bool {
			return c.Labels[karpv1.NodePoolLabelKey] == pool && c.DeletionTimestamp.IsZero() && c.Status.NodeName != ""
		})
		require.True(s, ok, "NodePool %s has no node", pool)
		require.NoError(s, shared.Break(s.ctx, claim.Status.NodeName))
		broken = append(broken, claim)
	}
	return broken
}

// ended says what is missing until the repairs of the NodeClaims have ended.
func (s *stage) ended(claims []karpv1.NodeClaim) error {
	var missing []string
	for _, claim := range claims {
		repair, err := s.repairOf(claim)
		switch {
		case err != nil:
			missing = append(missing, err.Error())
		case !repair.Finished():
			missing = append(missing, fmt.Sprintf("%s is %s: %s", repair.Name, repair.Status.Phase, repair.Status.Message))
		}
	}
	if len(missing) > 0 {
		return errors.Join(errors.New(strings.Join(missing, "; ")), s.boots())
	}
	return nil
}

// ends waits until the repairs of the NodeClaims have ended, and holds what every end must show: one NodeRepair and one
// replacement for each, nothing left behind, and never more than the budget at any moment.
func (s *stage) ends(claims []karpv1.NodeClaim) {
	s.Helper()
	s.eventually("the repairs end", func() error { return s.ended(claims) })
	s.settles()
	for _, claim := range claims {
		repair, err := s.repairOf(claim)
		require.NoError(s, err)
		require.Equal(s, v1alpha1.PhaseSucceeded, repair.Status.Phase, repair.Status.Message)
		require.Equal(s, []string{repair.Name}, s.ledger.RepairsOf(claim.UID), "the same NodeRepair went on")
		require.Len(s, s.ledger.ReplacementsOf(repair.Name), 1, "exactly one replacement was ever made")
	}
	for _, pool := range s.pools {
		most := s.ledger.Most(pool)
		require.LessOrEqual(s, most.Nodes(), budget, "the budget of NodePool %s was exceeded: %+v", pool, most)
	}
}

func (s *stage) repairOf(claim karpv1.NodeClaim) (v1alpha1.NodeRepair, error) {
	repair, ok := lo.Find(s.ledger.Repairs(), func(r v1alpha1.NodeRepair) bool { return r.Spec.NodeClaim.UID == claim.UID })
	if !ok {
		return repair, fmt.Errorf("there is no NodeRepair of %s", claim.Name)
	}
	return repair, nil
}

// settles waits until each NodePool has its node, all pods run, and nothing of ours is left in the cluster.
func (s *stage) settles() {
	s.Helper()
	s.eventually("the pools settle", s.settled)
}

func (s *stage) settled() error {
	named := lo.CountBy(s.ledger.Claims(), func(c karpv1.NodeClaim) bool { return c.Status.NodeName != "" })
	if all := len(s.ledger.Claims()); all != len(s.pools) || named != all {
		return fmt.Errorf("there are %d NodeClaims, not %d; %d name their node", all, len(s.pools), named)
	}
	if left, err := shared.Leftovers(s.ctx); err != nil || len(left) > 0 {
		return errors.Join(err, errors.New(strings.Join(left, "; ")))
	}
	deployments := &appsv1.DeploymentList{}
	if err := shared.Client.List(s.ctx, deployments, client.InNamespace(s.name)); err != nil {
		return err
	}
	for _, d := range deployments.Items {
		if d.Status.AvailableReplicas < 1 {
			return errors.Join(fmt.Errorf("the pod of %s is not available", d.Name), s.saysReadyAgain())
		}
	}
	return nil
}

// saysReadyAgain does what a kubelet does and kwok does not: where a node was taken for lost while the API server was
// away, its pods were made not ready, and once the node is back each says anew that it is.
func (s *stage) saysReadyAgain() error {
	pods := &corev1.PodList{}
	if err := shared.Client.List(s.ctx, pods, client.InNamespace(s.name)); err != nil {
		return err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		back := lo.ContainsBy(s.ledger.Nodes(), func(n corev1.Node) bool {
			return n.Name == pod.Spec.NodeName && lo.ContainsBy(n.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			})
		})
		for j := range pod.Status.Conditions {
			c := &pod.Status.Conditions[j]
			if c.Type != corev1.PodReady || c.Status == corev1.ConditionTrue || !back || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
				continue
			}
			c.Status, c.LastTransitionTime = corev1.ConditionTrue, metav1.Now()
			if err := shared.Client.Status().Update(s.ctx, pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// owner gives the NodePool that a write is about, and its node's NodeClaim; empty where it is about none. What is made
// for a NodePool has its name at the front of its own.
func (s *stage) owner(w write) string {
	pool, _ := lo.Find(s.pools, func(pool string) bool { return strings.Contains(w.What, pool) })
	return pool
}

// role tells a write by what it is to the repair of a NodeClaim, so that it can be found again in another repair.
func (s *stage) role(w write, sick karpv1.NodeClaim) string { return s.roleOf(w, sick.Name) }

func (s *stage) roleOf(w write, sick string) string {
	pool := s.owner(w)
	fields := strings.Fields(w.What)
	for i, field := range fields {
		switch {
		case strings.Contains(field, sick):
			fields[i] = "(the sick one)"
		case field == pool:
			fields[i] = ""
		case strings.Contains(field, pool):
			fields[i] = "(the replacement)"
		}
	}
	return strings.Join(strings.Fields(strings.Join(fields, " ")), " ")
}

// under is the stage for a test within its test.
func (s *stage) under(t *testing.T) *stage {
	t.Helper()
	inner := *s
	inner.T = t
	t.Cleanup(func() {
		if t.Failed() {
			inner.dump()
		}
	})
	return &inner
}

func sorted(names []string) []string {
	sort.Strings(names)
	return names
}
