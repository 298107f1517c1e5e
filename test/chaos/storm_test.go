package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/storm"
)

const (
	stormNodes  = 30
	stormBudget = 6
)

// beginStorm makes one NodePool of many nodes, and a controller that is told of storm.Condition.
func beginStorm(t *testing.T) *stage {
	t.Helper()
	s := beginEmpty(t, "storm", 1)
	pool := s.pools[0]
	budget := func(np *karpv1.NodePool) {
		np.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: fmt.Sprint(stormBudget)}}
	}
	soon := func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Tolerations = append(d.Spec.Template.Spec.Tolerations, cluster.SilenceTolerated(5*time.Second)...)
	}
	require.NoError(t, shared.Create(s.ctx, cluster.NodeClass(pool), cluster.NodePool(pool, budget), cluster.Deployment(s.name, pool, stormNodes, soon)))
	s.eventually("the pool has its nodes", func() error {
		if n := len(s.ledger.Claims()); n < stormNodes || !s.ledger.Settled() {
			return fmt.Errorf("it has %d", n)
		}
		return s.podsRun(stormNodes)
	})
	config := filepath.Join(t.TempDir(), "conditions.yaml")
	require.NoError(t, os.WriteFile(config, []byte(storm.NodeConditions), 0o600))
	controller, err := shared.StartController(s.ctx, "--leader-elect=false", "--node-conditions-config="+config)
	require.NoError(t, err)
	t.Cleanup(controller.Kill)
	return s
}

func (s *stage) podsRun(want int) error {
	is, err := shared.AvailablePods(s.ctx, s.name, s.pools[0])
	if err != nil {
		return err
	}
	if int(is) < want {
		return fmt.Errorf("%d of %d pods are available", is, want)
	}
	return nil
}

// passes lets a storm pass under a policy that takes many sick nodes for one fault, as it is by default.
func (s *stage) passes(o storm.Options, verifyFor time.Duration) storm.Result {
	s.Helper()
	policy := cluster.RepairPolicy(s.pools[0], func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Tolerate.Duration = 4 * time.Second
		p.Spec.CorrelatedFailure = v1alpha1.CorrelatedFailureSpec{}
		p.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: verifyFor}
	})
	require.NoError(s, shared.Create(s.ctx, policy))
	defer func() { _ = shared.Client.Delete(context.Background(), policy) }()
	o.Pool = s.pools[0]
	r, err := storm.Run(s.ctx, shared, o)
	require.NoError(s, err)
	s.Logf("%+v", r)
	require.LessOrEqual(s, r.Most.Nodes(), stormBudget, "the budget was exceeded: %+v", r.Most)
	before := s.ledger.Fates()
	require.NoError(s, storm.Calm(s.ctx, shared, o))
	time.Sleep(5 * time.Second)
	for uid, fate := range s.ledger.Fates() {
		// A repair that was past its last look when the storm ended takes its node.
		if old := before[uid]; fate.Deleted && fate.Stood && !old.Deleted {
			r.Lost++
		}
	}
	s.eventually("all pods run, and nothing is left", func() error {
		if left, err := shared.Leftovers(s.ctx); err != nil || len(left) > 0 {
			return fmt.Errorf("%v %w", left, err)
		}
		return s.podsRun(stormNodes)
	})
	return r
}

func TestStorms(t *testing.T) {
	all := beginStorm(t)
	t.Run("a wrong detector condemns half of the nodes, and every new one", func(t *testing.T) {
		r := all.under(t).passes(storm.Options{
			Fault: storm.Condition, Struck: storm.Any, Most: stormNodes / 2, Spread: 10 * time.Second,
			// Long enough for the replacement to stand, and for the probe to be lost.
			Contagion: 8 * time.Second, Window: time.Minute,
		}, 5*time.Minute)
		require.LessOrEqual(t, r.Lost, lo.Sum(lo.Values(r.Repairs)), "no node is lost but by a probe")
		require.LessOrEqual(t, r.Lost, 3, "probes pause for longer with every failure")
		require.LessOrEqual(t, r.Most.Nodes(), 2, "one is tried at a time; those that were sick before the others made the domain suspect may be ahead")
		require.Positive(t, r.Blocked["CorrelatedFailure"]+r.Blocked["Backoff"], "those that wait say why")
		require.LessOrEqual(t, r.Launched, 2*lo.Sum(lo.Values(r.Repairs)), "launches are bounded")
	})
	t.Run("half of the nodes are sick, and new ones are healthy", func(t *testing.T) {
		r := all.under(t).passes(storm.Options{
			Fault: storm.Condition, Struck: storm.Any, Most: stormNodes / 2, Window: 4 * time.Minute, UntilGone: true,
		}, time.Second)
		require.Equal(t, stormNodes/2, r.Lost, "all of them are repaired")
		require.Equal(t, stormNodes/2, r.Launched, "by one replacement each")
	})
	t.Run("a zone is silent for a while", func(t *testing.T) {
		s := all.under(t)
		zone := lo.MaxBy(lo.Values(lo.GroupBy(s.ledger.Nodes(), func(n corev1.Node) string { return n.Labels[corev1.LabelTopologyZone] })),
			func(a, b []corev1.Node) bool { return len(a) > len(b) })[0].Labels[corev1.LabelTopologyZone]
		r := s.passes(storm.Options{
			Fault: storm.Silence, Struck: storm.InZone(zone), Contagion: time.Millisecond, Lasts: 40 * time.Second, Window: time.Minute,
		}, time.Second)
		require.Greater(t, r.Struck, 2)
		require.LessOrEqual(t, r.Lost, 1, "the zone is held for one fault")
		require.Zero(t, r.LostAfter, "and its nodes stay when it comes back")
	})
}
