package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	karpdisruption "sigs.k8s.io/karpenter/pkg/controllers/disruption"
	"sigs.k8s.io/karpenter/pkg/controllers/state"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodeclaim/conditions"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	method "github.com/autorepair-sh/karpenter-autorepair/pkg/disruption"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/explain"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/recording"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
	"github.com/autorepair-sh/karpenter-autorepair/test/fakeapi"
	"github.com/autorepair-sh/karpenter-autorepair/test/golden"
)

// recordings are clusters at a moment: two of fixtures, and what has been recorded of local clusters in a storm.
func recordings(t *testing.T) []string {
	t.Helper()
	if golden.Updating() {
		for name, objects := range map[string][]client.Object{"storm": withKarpenter(storm()), "unblocked": unblocked()} {
			_, err := newWorld(objects...).run(t, "simulate", "--record", filepath.Join("testdata", "recordings", name+"-"+stampInName(now)+".json"))
			require.NoError(t, err)
		}
	}
	paths, err := filepath.Glob("testdata/recordings/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths
}

const inName = "20060102T150405Z"

func stampInName(t time.Time) string { return t.UTC().Format(inName) }

// timeOf a recording stands at the end of its name.
func timeOf(t *testing.T, path string) time.Time {
	t.Helper()
	name := strings.TrimSuffix(filepath.Base(path), ".json")
	at, err := time.Parse(inName, name[strings.LastIndex(name, "-")+1:])
	require.NoError(t, err)
	return at
}

// host is the controller, as far as it decides: the controllers that write conditions and NodeRepairs, on a recording.
type host struct {
	t     *testing.T
	api   client.WithWatch
	board *method.Board
	told  *conditions.Controller
	pass  *disruption.Controller
	// commands of the last pass, in their order.
	method *method.Method
	claims []string
}

func newHost(t *testing.T, path string, at time.Time) *host {
	t.Helper()
	reading := recording.NewReading()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // only read
	require.NoError(t, reading.Read(path, file))
	clk := clocktesting.NewFakeClock(at)
	h := &host{t: t, board: method.NewBoard(nil)}
	builder := fakeapi.Builder().WithStatusSubresource(&karpv1.NodeClaim{}).WithReturnManagedFields()
	for _, object := range reading.Objects() {
		object.SetResourceVersion("")
		if claim, ok := object.(*karpv1.NodeClaim); ok {
			h.claims = append(h.claims, claim.Name)
		}
		if object.GetDeletionTimestamp() != nil && len(object.GetFinalizers()) == 0 {
			object.SetFinalizers([]string{"test.autorepair.sh/keep"}) // the API in memory takes none without
		}
		builder = builder.WithObjects(object)
	}
	h.api = builder.Build()
	discovery := snapshot.NewDiscovery(h.api, snapshot.Overrides{})
	_, _, err = discovery.Discover(t.Context())
	require.NoError(t, err)
	gatherer := snapshot.NewGatherer(clk, h.api, discovery.Karpenter, true)
	repairs := func(c context.Context) ([]v1alpha1.NodeRepair, error) { return snapshot.ListRepairs(c, h.api) }
	h.method = method.NewMethod(gatherer, method.NewInKindPlanner(), h.board, repairs)
	h.told = conditions.NewController(clk, h.api, events.NewFakeRecorder(1000), h.board, make(chan event.GenericEvent))
	h.pass = disruption.NewController(clk, h.api, h.api, h.method, h.board, gatherer.Stops, func(time.Duration) {})
	return h
}

// tellAll writes the conditions of all NodeClaims.
func (h *host) tellAll() {
	h.t.Helper()
	for _, name := range h.claims {
		_, err := h.told.Reconcile(h.t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
		require.NoError(h.t, err)
	}
}

// candidates are all NodeClaims, of which the Method takes those that it has decided to repair.
func (h *host) candidates() []*karpdisruption.Candidate {
	h.t.Helper()
	var out []*karpdisruption.Candidate
	for _, name := range h.claims {
		node := state.NewNode()
		node.NodeClaim = &karpv1.NodeClaim{}
		require.NoError(h.t, h.api.Get(h.t.Context(), client.ObjectKey{Name: name}, node.NodeClaim))
		candidate := &karpdisruption.Candidate{StateNode: node}
		pool := &karpv1.NodePool{}
		if err := h.api.Get(h.t.Context(), client.ObjectKey{Name: node.NodeClaim.Labels[karpv1.NodePoolLabelKey]}, pool); err == nil {
			candidate.NodePool = pool
		}
		out = append(out, candidate)
	}
	return out
}

func (h *host) repairs() []v1alpha1.NodeRepair {
	h.t.Helper()
	list := &v1alpha1.NodeRepairList{}
	require.NoError(h.t, h.api.List(h.t.Context(), list))
	return list.Items
}

// The same objects at the same time lead to the same decisions, whether the controller's own loops see them or simulate
// reads them from a file: the same NodeRepairs are made, and each NodeClaim is told the same blockers.
func TestSimulateDecidesAsTheController(t *testing.T) {
	for _, path := range recordings(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			at := timeOf(t, path)
			w := newWorld()
			p, err := w.look(t.Context(), &source{files: []string{path}, now: stamp(at)})
			require.NoError(t, err)
			simulated, err := p.simulate(t.Context())
			require.NoError(t, err)

			h := newHost(t, path, at)
			before := lo.SliceToMap(h.repairs(), func(r v1alpha1.NodeRepair) (string, bool) { return r.Name, true })
			h.tellAll()
			_, err = h.pass.Reconcile(t.Context(), reconcile.Request{})
			require.NoError(t, err)

			decided := map[string]decision.Decision{}
			for _, d := range h.board.All() {
				decided[d.Node.NodeClaim] = d
			}
			nodes := append(append(append([]explain.SimulatedNode{}, simulated.Repairs...), simulated.AtWork...), simulated.Held...)
			require.Len(t, nodes, len(decided), "as many are decided about")
			for _, node := range nodes {
				d, ok := decided[node.NodeClaim]
				require.True(t, ok, node.NodeClaim)
				require.Equal(t, d.Admitted, node.Order > 0, node.NodeClaim)
				require.Equal(t, d.TerminateFirst, node.TerminateFirst, node.NodeClaim)
				require.InDelta(t, d.Score, node.Score, 1e-9, node.NodeClaim)
				require.Equal(t, lo.Map(d.Blockers, func(b decision.Blocker, _ int) explain.ExplainedBlocker { return explain.ExplainBlocker(b) }),
					append([]explain.ExplainedBlocker{}, node.Blockers...), node.NodeClaim)
			}

			made := map[string]v1alpha1.NodeRepair{}
			for _, r := range h.repairs() {
				if !before[r.Name] {
					made[r.Spec.NodeClaim.Name] = r
				}
			}
			require.Len(t, made, len(simulated.Repairs), "as many NodeRepairs are made as simulate says")
			for _, node := range simulated.Repairs {
				r, ok := made[node.NodeClaim]
				require.True(t, ok, "a NodeRepair of %s", node.NodeClaim)
				require.Equal(t, node.Action, r.Spec.Action)
				require.Equal(t, node.TerminateFirst, r.Spec.TerminateFirst)
				require.Equal(t, node.DrainBound, r.Spec.DrainBound)
				require.Equal(t, []string{node.Policy, node.Rule, node.Reason, node.Subject}, []string{r.Spec.Policy.Name, r.Spec.Policy.Rule, r.Spec.Cause.Reason, r.Spec.Cause.Subject})
			}

			h.tellAll()
			requireTold(t, h, simulated)
		})
	}
}

// requireTold compares what is written on the NodeClaims with what simulate says of them.
func requireTold(t *testing.T, h *host, simulated explain.Simulation) {
	t.Helper()
	for _, node := range simulated.Held {
		claim := &karpv1.NodeClaim{}
		require.NoError(t, h.api.Get(t.Context(), client.ObjectKey{Name: node.NodeClaim}, claim))
		blocked, ok := lo.Find(claim.Status.Conditions, func(c status.Condition) bool { return c.Type == v1alpha1.ConditionRepairBlocked })
		require.True(t, ok, "%s is told that it is blocked", node.NodeClaim)
		require.Equal(t, node.Blockers[0].Reason, blocked.Reason, node.NodeClaim)
		for _, b := range node.Blockers {
			require.Contains(t, blocked.Message, b.Reason+": "+b.Message, node.NodeClaim)
		}
	}
}

// The commands of a pass come in the order that simulate says.
func TestSimulateOrdersAsTheController(t *testing.T) {
	for _, path := range recordings(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			at := timeOf(t, path)
			p, err := newWorld().look(t.Context(), &source{files: []string{path}, now: stamp(at)})
			require.NoError(t, err)
			simulated, err := p.simulate(t.Context())
			require.NoError(t, err)
			h := newHost(t, path, at)
			commands, err := h.method.ComputeCommands(snapshot.WithKarpenterOptions(t.Context()), nil, h.candidates()...)
			require.NoError(t, err)
			var order []string
			for _, command := range commands {
				order = append(order, command.Candidates[0].NodeClaim.Name)
			}
			require.Equal(t, lo.Map(simulated.Repairs, func(n explain.SimulatedNode, _ int) string { return n.NodeClaim }), append([]string{}, order...))
		})
	}
}
