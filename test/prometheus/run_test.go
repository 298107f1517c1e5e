package prometheus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// patience is how long an expected thing may take; generous, since the computer may be slow.
const patience = 3 * time.Minute

// quiet are the queries that give nothing in this run, since what they are there for does not happen in it.
var quiet = []string{
	"panel Events B",            // no reason has 200 events at once
	"panel Trouble of agents C", // no log record is lost
}

// A small storm: in one NodePool so many nodes turn sick that it is suspect, one repair helps, and one does not, since
// the replacement shows the same cause. In another a node is sick, vetoed and paused, and an agent looks at it.
const (
	stormy = "stormy"
	paused = "paused"
)

func TestEveryQueryGivesDataFromARealRun(t *testing.T) {
	suite.Need(t)
	debian(t, "prometheus")
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Minute)
	t.Cleanup(cancel)
	r := begin(ctx, t)

	nodes := r.nodes(stormy, 6)
	for _, node := range nodes[:3] {
		require.NoError(t, r.c.Break(ctx, node))
	}
	sick := r.nodes(paused, 3)[0]
	for _, annotation := range [][]string{{"node", sick, v1alpha1.VetoAnnotation}, {"nodepool", paused, v1alpha1.PauseAnnotation}} {
		_, err := r.c.Kubectl(ctx, "annotate", annotation[0], annotation[1], annotation[2]+"=true")
		require.NoError(t, err)
	}
	require.NoError(t, r.c.Break(ctx, sick))

	helped := r.repairEnds(v1alpha1.PhaseSucceeded, nil)
	inVain := r.repairEnds(v1alpha1.PhaseFailed, func(repair *v1alpha1.NodeRepair) {
		if repair.Name != helped.Name && repair.Status.Phase == v1alpha1.PhaseVerifying {
			_ = r.c.Break(ctx, repair.Status.Replacements[len(repair.Status.Replacements)-1].NodeName)
		}
	})
	require.True(t, inVain.CauseReturned(), "%+v", inVain.Status.Conditions)
	r.until("every query has given data, but for those that have nothing to say", func() error {
		if left := lo.Without(r.left(), quiet...); len(left) > 0 {
			return fmt.Errorf("nothing yet from: %s", strings.Join(left, "; "))
		}
		return nil
	})
	for _, where := range quiet {
		require.Contains(t, queries(t), where, "there is no such query any more")
	}
	r.until("the alert about the false repair fires", func() error {
		firing, err := r.prometheus.firing(ctx)
		if err == nil && !firing["AutorepairFalseRepairs"] {
			return fmt.Errorf("firing are %v", slices.Collect(maps.Keys(firing)))
		}
		return err
	})
	r.onlyDocumentedIsServed()
	r.eventsAreFound(sick, inVain)
	r.aRestartCountsNothingTwice()
}

// run is a storm that Prometheus watches.
type run struct {
	*testing.T
	ctx        context.Context
	c          *cluster.Cluster
	controller *cluster.Controller
	// token by which the controller shows its metrics.
	token      string
	prometheus *server
	// agentAddress is where the agent serves its metrics.
	agentAddress string
	// waiting are the queries that have given no data yet, by where they stand.
	waiting map[string]string
	asked   time.Time
}

func begin(ctx context.Context, t *testing.T) *run {
	t.Helper()
	c, err := cluster.Up(ctx, cluster.Options{Name: "prometheus"})
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := c.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	require.NoError(t, c.Install(ctx))
	r := &run{T: t, ctx: ctx, c: c, waiting: queries(t)}
	for where := range r.waiting {
		if strings.HasPrefix(where, "alert ") {
			delete(r.waiting, where) // most give nothing until something is wrong; what they ask for has to be there
		}
	}
	for _, s := range selectors(t) {
		r.waiting["alerts ask for "+s] = s
	}
	require.NoError(t, c.EnsureNamespace(ctx, "storm"))
	for pool, replicas := range map[string]int32{stormy: 6, paused: 3} {
		free := func(np *karpv1.NodePool) { np.Spec.Disruption.Budgets[0].Nodes = "100%" }
		policy := cluster.RepairPolicy(pool, func(p *v1alpha1.RepairPolicy) {
			p.Spec.CorrelatedFailure.MaxUnhealthy = lo.ToPtr(intstr.FromString("20%"))
			p.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: 10 * time.Second}
		})
		require.NoError(t, c.Create(ctx, cluster.NodeClass(pool), cluster.NodePool(pool, free), policy, cluster.Deployment("storm", pool, replicas)))
	}
	r.startController()
	t.Cleanup(func() {
		_ = r.controller.Stop()
		if said, _ := os.ReadFile(r.controller.Log); t.Failed() {
			t.Logf("the controller said:\n%s", said[max(0, len(said)-4000):])
		}
	})
	r.agentAddress = freeAddress(t)
	agent, err := c.StartAgent(ctx, cluster.AgentOptions{Node: r.nodes(paused, 3)[1], Heartbeat: 5 * time.Second, Args: []string{"--metrics-bind-address=" + r.agentAddress}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = agent.Stop() })
	r.prometheus = startServer(ctx, t, r.controllerTarget(), r.agentTarget())
	r.until("both are scraped, and the counters stand at zero", func() error {
		if unreached, err := r.prometheus.unreached(ctx); err != nil || unreached != "" {
			return fmt.Errorf("%s %w", unreached, err)
		}
		if values, err := r.prometheus.query(ctx, "autorepair_false_repairs_total"); err != nil || len(values) == 0 {
			return fmt.Errorf("%v %w", values, err)
		}
		return nil
	})
	return r
}

// startController runs the only replica: one that cannot renew a lease in time, on a computer that has much else to do,
// would end.
func (r *run) startController() {
	r.Helper()
	var err error
	r.token, err = r.c.MetricsToken(r.ctx)
	require.NoError(r, err)
	r.controller, err = r.c.StartController(r.ctx, "--leader-elect=false")
	require.NoError(r, err)
}

// until waits, and goes on asking the queries meanwhile.
func (r *run) until(what string, check func() error) {
	r.Helper()
	suite.Within(r.ctx, r, patience, what, func() error {
		r.ask()
		return check()
	})
}

// ask asks, once a second, each query that has given no data yet. None may be wrong.
func (r *run) ask() {
	if r.prometheus == nil || time.Since(r.asked) < time.Second {
		return
	}
	r.asked = time.Now()
	for where, expr := range r.waiting {
		values, err := r.prometheus.query(r.ctx, expr)
		require.NoError(r, err, "%s: %s", where, expr)
		if len(values) > 0 {
			delete(r.waiting, where)
		}
	}
}

// left names the queries that have given no data yet.
func (r *run) left() []string { return slices.Sorted(maps.Keys(r.waiting)) }

// nodes of a NodePool, once it has so many.
func (r *run) nodes(pool string, n int) []string {
	r.Helper()
	var nodes []string
	suite.Within(r.ctx, r, patience, fmt.Sprintf("NodePool %s has %d nodes", pool, n), func() error {
		claims := &karpv1.NodeClaimList{}
		if err := r.c.Client.List(r.ctx, claims, client.MatchingLabels{karpv1.NodePoolLabelKey: pool}); err != nil {
			return err
		}
		nodes = nil
		for i := range claims.Items {
			if claims.Items[i].StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
				nodes = append(nodes, claims.Items[i].Status.NodeName)
			}
		}
		if len(nodes) < n {
			return fmt.Errorf("it has %v", nodes)
		}
		return nil
	})
	slices.Sort(nodes)
	return nodes
}

// repairEnds waits for a NodeRepair of the storm that has ended so; each gets to see every one of them meanwhile.
func (r *run) repairEnds(phase v1alpha1.Phase, each func(*v1alpha1.NodeRepair)) *v1alpha1.NodeRepair {
	r.Helper()
	var ended *v1alpha1.NodeRepair
	r.until(fmt.Sprintf("a NodeRepair is %s", phase), func() error {
		list := &v1alpha1.NodeRepairList{}
		if err := r.c.Client.List(r.ctx, list); err != nil {
			return err
		}
		for i := range list.Items {
			if each != nil {
				each(&list.Items[i])
			}
			if list.Items[i].Status.Phase == phase && list.Items[i].Spec.NodePool == stormy {
				ended = &list.Items[i]
				return nil
			}
		}
		return errors.New("none is yet")
	})
	return ended
}

// onlyDocumentedIsServed reads what both serve.
func (r *run) onlyDocumentedIsServed() {
	r.Helper()
	documented := served()
	for _, of := range []target{r.controllerTarget(), r.agentTarget()} {
		ours := 0
		for name := range r.scrape(of) {
			family, _, _ := strings.Cut(name, "{")
			if strings.HasPrefix(family, "autorepair_") {
				ours++
				require.True(r, documented[family], "%s serves %s, which docs/metrics.md does not have", of.job, family)
			}
		}
		require.Positive(r, ours, of.job)
	}
}

// eventsAreFound asks kubectl as a person does.
func (r *run) eventsAreFound(sick string, inVain *v1alpha1.NodeRepair) {
	r.Helper()
	for _, test := range []struct {
		kind, name string
		want       []string
	}{
		{"node", sick, []string{"KernelNotReady", "Unhealthy", "RepairBlocked"}},
		{"nodepool", paused, []string{"RepairsPaused", "DomainSuspect"}},
		{"nodepool", stormy, []string{"RepairStarted", "RepairSucceeded", "RepairFailed", "DomainSuspect"}},
	} {
		r.until("kubectl describe "+test.kind+" shows the turns", func() error {
			said, err := r.c.Kubectl(r.ctx, "describe", test.kind, test.name)
			for _, reason := range test.want {
				if err == nil && !strings.Contains(said, " "+reason+" ") {
					err = fmt.Errorf("%s is not among the events of %s", reason, test.name)
				}
			}
			return err
		})
	}
	said, err := r.c.Kubectl(r.ctx, "get", "events", "-A", "--field-selector", "involvedObject.kind=NodeClaim,involvedObject.name="+inVain.Spec.NodeClaim.Name)
	require.NoError(r, err)
	for _, reason := range []string{"KernelNotReady", "RepairTerminating", "RepairVerifying", "RepairFailed"} {
		require.Contains(r, said, reason)
	}
}

// aRestartCountsNothingTwice starts the controller anew while nodes are sick and repairs have ended, with everything
// stopped, so that nothing new can happen.
func (r *run) aRestartCountsNothingTwice() {
	r.Helper()
	require.NoError(r, r.c.Create(r.ctx, &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: "stop"}}))
	r.until("what was at work has ended", func() error {
		list := &v1alpha1.NodeRepairList{}
		if err := r.c.Client.List(r.ctx, list); err != nil {
			return err
		}
		for i := range list.Items {
			if !list.Items[i].Finished() {
				return fmt.Errorf("NodeRepair %s is %s", list.Items[i].Name, list.Items[i].Status.Phase)
			}
		}
		return nil
	})
	require.NoError(r, r.controller.Stop())
	r.startController()
	var after map[string]float64
	r.until("the new one sees that nodes are sick", func() error {
		after = r.scrape(r.controllerTarget())
		if after[`autorepair_nodeclaims_unhealthy{nodepool="`+paused+`"}`] == 0 || after[`autorepair_paused{kind="RepairPause"}`] != 1 {
			return errors.New("it does not yet")
		}
		return nil
	})
	for name, value := range after {
		family, _, _ := strings.Cut(name, "{")
		switch family {
		case "autorepair_repairs_total", "autorepair_false_repairs_total", "autorepair_launches_withdrawn_total",
			"autorepair_time_to_detect_seconds_count", "autorepair_time_to_decide_seconds_count", "autorepair_time_to_replace_seconds_count":
			require.Zero(r, value, "%s is counted again", name)
		}
	}
}

// scrape reads the series that a process of ours serves.
func (r *run) scrape(of target) map[string]float64 {
	r.Helper()
	series, err := scrape(r.ctx, of)
	require.NoError(r, err)
	return series
}

// controllerTarget and agentTarget say where the processes serve their metrics, and what they ask for.
func (r *run) controllerTarget() target {
	return target{job: "controller", url: r.controller.Metrics, token: r.token}
}

func (r *run) agentTarget() target {
	return target{job: "agent", url: "http://" + r.agentAddress + "/metrics"}
}
