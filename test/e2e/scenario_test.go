package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// patience is how long an expected thing may take; generous, since the machine may be slow.
const patience = 90 * time.Second

// scenario is one test's own NodePool, namespace and policy, all of one name.
type scenario struct {
	*testing.T
	ctx  context.Context
	c    *cluster.Cluster
	name string
}

// begin skips where there is no cluster, and cleans up after the test.
func begin(t *testing.T, name string) *scenario {
	t.Helper()
	suite.Need(t)
	return beginOn(t, shared, name)
}

func beginOn(t *testing.T, c *cluster.Cluster, name string) *scenario {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	s := &scenario{T: t, ctx: ctx, c: c, name: name}
	require.NoError(t, c.EnsureNamespace(ctx, name))
	t.Cleanup(func() {
		defer cancel()
		s.cleanUp()
	})
	return s
}

func (s *scenario) cleanUp() {
	if s.Failed() {
		s.dump()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	drop := func(o client.Object, name string) {
		o.SetName(name)
		_ = client.IgnoreNotFound(s.c.Client.Delete(ctx, o))
	}
	drop(&v1alpha1.RepairPolicy{}, s.name)
	drop(&corev1.Namespace{}, s.name)
	drop(&karpv1.NodePool{}, s.name)
	for _, claim := range s.claims() {
		drop(&karpv1.NodeClaim{}, claim.Name)
	}
}

func (s *scenario) dump() {
	for _, args := range [][]string{
		{"get", "nodeclaims", "-l", karpv1.NodePoolLabelKey + "=" + s.name, "-o", "yaml"},
		{"get", "noderepairs", "-l", v1alpha1.NodePoolLabel + "=" + s.name, "-o", "yaml"},
		{"get", "pods", "-n", s.name, "-o", "wide"},
	} {
		out, err := s.c.Kubectl(context.Background(), args...)
		s.Logf("kubectl %s (%v)\n%s", strings.Join(args, " "), err, out)
	}
}

// pool makes the NodePool, its NodeClass, a Deployment with a pod on each of the nodes, and gives the Nodes.
func (s *scenario) pool(nodes int32, overrides ...any) []corev1.Node {
	s.Helper()
	var pools []func(*karpv1.NodePool)
	var deployments []func(*appsv1.Deployment)
	for _, override := range overrides {
		switch o := override.(type) {
		case func(*karpv1.NodePool):
			pools = append(pools, o)
		case func(*appsv1.Deployment):
			deployments = append(deployments, o)
		default:
			s.Fatalf("pool takes no override of type %T", override)
		}
	}
	require.NoError(s, s.c.Create(s.ctx, cluster.NodeClass(s.name), cluster.NodePool(s.name, pools...), cluster.Deployment(s.name, s.name, nodes, deployments...)))
	s.eventually("the pool has its nodes", func() error {
		if got := len(s.readyNodes()); got < int(nodes) {
			return fmt.Errorf("%d of %d nodes are initialized", got, nodes)
		}
		// Karpenter writes the Node's label before the NodeClaim's status.
		if named := lo.CountBy(s.claims(), func(c karpv1.NodeClaim) bool { return c.Status.NodeName != "" }); named < int(nodes) {
			return fmt.Errorf("%d of %d NodeClaims name their node", named, nodes)
		}
		return s.deploymentAvailable(nodes)
	})
	return s.readyNodes()
}

func (s *scenario) policy(overrides ...func(*v1alpha1.RepairPolicy)) {
	s.Helper()
	require.NoError(s, s.c.Create(s.ctx, cluster.RepairPolicy(s.name, overrides...)))
}

func (s *scenario) deploymentAvailable(want int32) error {
	is, err := s.c.AvailablePods(s.ctx, s.name, s.name)
	if err != nil {
		return err
	}
	if is < want {
		return fmt.Errorf("%d of %d pods are available", is, want)
	}
	return nil
}

func (s *scenario) readyNodes() []corev1.Node {
	s.Helper()
	nodes := &corev1.NodeList{}
	require.NoError(s, s.c.Client.List(s.ctx, nodes, client.MatchingLabels{karpv1.NodePoolLabelKey: s.name, karpv1.NodeInitializedLabelKey: "true"}))
	sort.Slice(nodes.Items, func(i, j int) bool { return nodes.Items[i].Name < nodes.Items[j].Name })
	return nodes.Items
}

func (s *scenario) claims() []karpv1.NodeClaim {
	claims, err := s.c.NodeClaims(context.Background(), s.name)
	if err != nil {
		s.Error(err)
	}
	return claims
}

// claim of a Node; it fails the test where there is none.
func (s *scenario) claim(node string) karpv1.NodeClaim {
	s.Helper()
	claim, ok := lo.Find(s.claims(), func(c karpv1.NodeClaim) bool { return c.Status.NodeName == node })
	require.True(s, ok, "no NodeClaim for Node %s", node)
	return claim
}

func (s *scenario) repairs() []v1alpha1.NodeRepair {
	s.Helper()
	list := &v1alpha1.NodeRepairList{}
	require.NoError(s, s.c.Client.List(s.ctx, list))
	return lo.Filter(list.Items, func(r v1alpha1.NodeRepair, _ int) bool { return r.Spec.NodePool == s.name })
}

// onlyRepair gives the one NodeRepair of the pool.
func (s *scenario) onlyRepair() v1alpha1.NodeRepair {
	s.Helper()
	repairs := s.repairs()
	require.Len(s, repairs, 1, "there must be exactly one NodeRepair")
	return repairs[0]
}

func (s *scenario) breakNode(node string) { s.Helper(); require.NoError(s, s.c.Break(s.ctx, node)) }
func (s *scenario) heal(node string)      { s.Helper(); require.NoError(s, s.c.Heal(s.ctx, node)) }

func (s *scenario) eventually(what string, check func() error) {
	s.Helper()
	s.within(patience, what, check)
}

func (s *scenario) within(limit time.Duration, what string, check func() error) {
	s.Helper()
	suite.Within(s.ctx, s, limit, what, check)
}

func (s *scenario) holdsFor(span time.Duration, what string, check func() error) {
	s.Helper()
	suite.HoldsFor(s, span, what, check)
}

// repairEnds waits for the only repair of the pool to reach a final phase.
func (s *scenario) repairEnds(phase v1alpha1.Phase) v1alpha1.NodeRepair {
	s.Helper()
	s.repairsEnd(phase, 1)
	return s.onlyRepair()
}

func (s *scenario) repairsEnd(phase v1alpha1.Phase, want int) {
	s.Helper()
	s.within(3*time.Minute, fmt.Sprintf("%d repairs end as %s", want, phase), func() error {
		ended := 0
		for _, repair := range s.repairs() {
			if repair.Finished() && repair.Status.Phase != phase {
				s.Fatalf("NodeRepair %s ended as %s, not %s: %s", repair.Name, repair.Status.Phase, phase, repair.Status.Message)
			}
			if repair.Finished() {
				ended++
			}
		}
		if ended < want {
			return fmt.Errorf("%d have ended: %s", ended, strings.Join(lo.Map(s.repairs(), func(r v1alpha1.NodeRepair, _ int) string {
				return fmt.Sprintf("%s %s %q", r.Name, r.Status.Phase, r.Status.Message)
			}), "; "))
		}
		return nil
	})
}

func (s *scenario) reaches(phases ...v1alpha1.Phase) v1alpha1.NodeRepair {
	s.Helper()
	var found v1alpha1.NodeRepair
	s.eventually(fmt.Sprintf("a repair reaches %v", phases), func() error {
		for _, repair := range s.repairs() {
			if lo.Contains(phases, repair.Status.Phase) {
				found = repair
				return nil
			}
		}
		return fmt.Errorf("there are %v", lo.Map(s.repairs(), func(r v1alpha1.NodeRepair, _ int) v1alpha1.Phase { return r.Status.Phase }))
	})
	return found
}

// gone waits until the Node and its NodeClaim have gone.
func (s *scenario) gone(node string) {
	s.Helper()
	s.eventually("Node "+node+" is gone", func() error {
		err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: node}, &corev1.Node{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.New("it is there")
	})
}

// settles waits until the pool has this many nodes and claims, all pods run, and nothing of ours is left on them;
// and then that it stays so.
func (s *scenario) settles(nodes int) {
	s.Helper()
	check := func() error {
		claims := s.claims()
		if len(claims) != nodes {
			return fmt.Errorf("there are %d NodeClaims, not %d", len(claims), nodes)
		}
		for _, claim := range claims {
			if key, ok := lo.Find(lo.Keys(claim.Annotations), ours); ok {
				return fmt.Errorf("NodeClaim %s has the annotation %s", claim.Name, key)
			}
		}
		for _, node := range s.readyNodes() {
			if key, ok := lo.Find(lo.Keys(node.Annotations), ours); ok {
				return fmt.Errorf("Node %s has the annotation %s", node.Name, key)
			}
			if lo.ContainsBy(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.UnhealthyTaintKey }) {
				return fmt.Errorf("Node %s has the fence's taint", node.Name)
			}
		}
		return s.deploymentAvailable(int32(nodes))
	}
	s.eventually("the pool settles", check)
	s.holdsFor(5*time.Second, "the pool stays settled", check)
}

func ours(annotation string) bool {
	return annotation == karpv1.DoNotDisruptAnnotationKey || annotation == karpv1.DoNotRepairAnnotationKey ||
		strings.HasPrefix(annotation, v1alpha1.Group+"/")
}

// blocked waits until the NodeClaim of the Node says that its repair is blocked by the reason.
func (s *scenario) blocked(node, reason string) {
	s.Helper()
	s.eventually("the NodeClaim says that it is blocked by "+reason, func() error {
		condition := s.condition(node, v1alpha1.ConditionRepairBlocked)
		if condition.Reason != reason {
			return fmt.Errorf("it says %q: %s", condition.Reason, condition.Message)
		}
		return nil
	})
}

func (s *scenario) leftAlone(node string) {
	s.Helper()
	s.holdsFor(4*time.Second, "the node is left alone", func() error {
		if repairs := s.repairs(); len(repairs) > 0 {
			return fmt.Errorf("there is NodeRepair %s", repairs[0].Name)
		}
		got := &corev1.Node{}
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: node}, got); err != nil {
			return err
		}
		if !got.DeletionTimestamp.IsZero() || lo.ContainsBy(got.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.UnhealthyTaintKey }) {
			return fmt.Errorf("the Node is deleted or fenced")
		}
		return nil
	})
}

type condition struct{ Status, Reason, Message string }

func (s *scenario) condition(node, conditionType string) condition {
	s.Helper()
	claim := s.claim(node)
	for _, c := range claim.Status.Conditions {
		if c.Type == conditionType {
			return condition{string(c.Status), c.Reason, c.Message}
		}
	}
	return condition{}
}

var (
	otherNodes = regexp.MustCompile(`kwok-POOL[0-9a-z-]+`)
	repairs    = regexp.MustCompile(`POOL-[0-9a-z]{5}-\d+\b`)
	podNames   = regexp.MustCompile(`POOL-[0-9a-z]+-[0-9a-z]{5}\b`)
	timestamps = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	uids       = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
)

// golden compares what kubectl describe shows of our conditions with testdata/NAME.txt. Names that change from run
// to run are replaced: the NodeClaim, its Node, times.
func (s *scenario) golden(file, node string) {
	s.Helper()
	s.goldenOf(file, s.claim(node).Name, node)
}

func (s *scenario) goldenOf(file, claim, node string) {
	s.Helper()
	text, err := s.c.Kubectl(s.ctx, "describe", "nodeclaim", claim)
	require.NoError(s, err)
	text = cluster.OurConditions(text)
	text = strings.NewReplacer(node, "NODE", claim, "NODECLAIM", s.name, "POOL").Replace(text)
	text = otherNodes.ReplaceAllString(text, "OTHER")
	text = repairs.ReplaceAllString(text, "NODEREPAIR")
	text = podNames.ReplaceAllString(text, "POD")
	text = uids.ReplaceAllString(timestamps.ReplaceAllString(text, "TIME"), "UID")
	path := filepath.Join("testdata", file+".txt")
	if *update {
		require.NoError(s, os.MkdirAll("testdata", 0o755))
		require.NoError(s, os.WriteFile(path, []byte(text+"\n"), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(s, err, "run the test with -update to write the golden file")
	require.Equal(s, strings.TrimSpace(string(want)), strings.TrimSpace(text), "kubectl describe shows something else than %s", path)
}
