package kubectl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	karpstatus "github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/explain"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/recording"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/golden"
)

// same is the name of the NodePool, namespace and RepairPolicy of the tests of sameness.
const same = "same"

// sickOfSame of samesNodes are broken, one after another, since the older fault goes first.
const (
	samesNodes = 5
	sickOfSame = 3
)

// TestSimulateAndExplainAgreeWithTheController lets a storm pass, and compares what simulate and explain say with what the
// controller writes: while a policy in mode DryRun holds everything, what another policy would change, the order of the
// repairs once that policy is applied, and while they are at work.
func TestSimulateAndExplainAgreeWithTheController(t *testing.T) {
	ctx := needCluster(t)
	t.Cleanup(func() { removeSame(t) })
	struck := beginSame(ctx, t)
	t.Run("everything is held as the controller says", func(t *testing.T) { agreeEventually(ctx, t, len(struck)) })
	t.Run("a node is explained as the controller says", func(t *testing.T) { explained(ctx, t, struck[0]) })
	t.Run("reading is enough, and what may not be read is named", func(t *testing.T) { asReader(ctx, t, struck[0]) })
	t.Run("what kubectl records is decided about as the cluster", func(t *testing.T) { recordedByKubectl(ctx, t) })
	t.Run("what is recorded is decided about as the cluster", func(t *testing.T) { recordedByUs(ctx, t, "held") })
	t.Run("the order of the repairs is as a simulated policy says", func(t *testing.T) { orderOfRepairs(ctx, t) })
	t.Run("it says when no controller is at work", func(t *testing.T) { withoutController(ctx, t) })
}

func policySame(mode v1alpha1.Mode) *v1alpha1.RepairPolicy {
	return cluster.RepairPolicy(same, func(p *v1alpha1.RepairPolicy) {
		p.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "RepairPolicy"}
		p.Spec.Mode = mode
		p.Spec.Rules[0].Tolerate.Duration = time.Second
		p.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: time.Second}
	})
}

// beginSame makes the nodes and breaks some, and gives these in the order in which they broke.
func beginSame(ctx context.Context, t *testing.T) []string {
	t.Helper()
	require.NoError(t, shared.EnsureNamespace(ctx, same))
	require.NoError(t, shared.Create(ctx, cluster.NodeClass(same), cluster.NodePool(same), policySame(v1alpha1.ModeDryRun), cluster.Deployment(same, same, samesNodes)))
	var nodes []string
	eventually(ctx, t, "all nodes stand", func() error {
		if nodes = initialized(ctx, t); len(nodes) != samesNodes {
			return fmt.Errorf("%d of %d nodes", len(nodes), samesNodes)
		}
		return nil
	})
	slices.Sort(nodes)
	slices.Reverse(nodes) // so that names do not give the order away
	struck := nodes[:sickOfSame]
	for _, node := range struck {
		require.NoError(t, shared.Break(ctx, node))
		time.Sleep(1100 * time.Millisecond) // times in the API are of seconds
	}
	return struck
}

func initialized(ctx context.Context, t *testing.T) []string {
	t.Helper()
	list := &corev1.NodeList{}
	require.NoError(t, shared.Client.List(ctx, list, client.MatchingLabels{karpv1.NodePoolLabelKey: same, karpv1.NodeInitializedLabelKey: "true"}))
	return lo.FilterMap(list.Items, func(n corev1.Node, _ int) (string, bool) { return n.Name, n.DeletionTimestamp.IsZero() })
}

// simulated is what simulate says of the NodePool.
func simulated(ctx context.Context, t *testing.T, args ...string) explain.Simulation {
	t.Helper()
	var s explain.Simulation
	require.NoError(t, json.Unmarshal([]byte(say(ctx, t, append([]string{"simulate", "-o", "json"}, args...)...)), &s))
	return s
}

func ours(nodes []explain.SimulatedNode) []explain.SimulatedNode {
	return lo.Filter(nodes, func(n explain.SimulatedNode, _ int) bool { return n.NodePool == same })
}

// agree compares what simulate says of a recording with what the controller has written on the NodeClaims of it.
func agree(s explain.Simulation, claims map[string]*karpv1.NodeClaim) error {
	for _, node := range ours(s.Held) {
		claim := claims[node.NodeClaim]
		blocked, ok := lo.Find(claim.Status.Conditions, func(c karpstatus.Condition) bool { return c.Type == v1alpha1.ConditionRepairBlocked })
		if !ok {
			return fmt.Errorf("%s is held by %v, and its NodeClaim says nothing", node.NodeClaim, node.Blockers)
		}
		lines := lo.Map(node.Blockers, func(b explain.ExplainedBlocker, _ int) string {
			line := b.Reason + ": " + b.Message
			if b.How != "" {
				line += ". To lift it: " + b.How
			}
			return line
		})
		if want := strings.Join(lines, "\n"); blocked.Message != want || blocked.Reason != node.Blockers[0].Reason {
			return fmt.Errorf("%s: simulate says %q, the NodeClaim %q", node.NodeClaim, want, blocked.Message)
		}
	}
	for _, node := range ours(s.AtWork) {
		if !lo.ContainsBy(claims[node.NodeClaim].Status.Conditions, func(c karpstatus.Condition) bool { return c.Type == v1alpha1.ConditionRepairing && c.IsTrue() }) {
			return fmt.Errorf("%s is being repaired, and its NodeClaim does not say so", node.NodeClaim)
		}
	}
	return nil
}

// record records the cluster, and gives what simulate says of the recording at that moment beside the NodeClaims in it.
func record(ctx context.Context, t *testing.T) (file string, s explain.Simulation, claims map[string]*karpv1.NodeClaim) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "recording.json")
	out, errOut, err := call(ctx, nil, "simulate", "--record", file)
	require.NoError(t, err)
	require.Empty(t, out)
	_, now, ok := strings.Cut(strings.TrimSpace(errOut), "--now ")
	require.True(t, ok, errOut)
	s = simulated(ctx, t, "-f", file, "--now", now)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	reading := recording.NewReading()
	require.NoError(t, reading.Read(file, bytes.NewReader(text))) //nolint:contextcheck // rules are reckoned, which nothing has to end
	claims = map[string]*karpv1.NodeClaim{}
	for _, object := range reading.Objects() {
		if claim, ok := object.(*karpv1.NodeClaim); ok {
			claims[claim.Name] = claim
		}
	}
	return file, s, claims
}

// agreeEventually waits for a recording in which simulate and the NodeClaims say the same of so many sick nodes: in
// between the controller may be some steps behind what it has caused itself.
func agreeEventually(ctx context.Context, t *testing.T, sick int) {
	t.Helper()
	eventually(ctx, t, "simulate and the controller agree", func() error {
		_, s, claims := record(ctx, t)
		if held := len(ours(s.Held)); held != sick {
			return fmt.Errorf("%d of %d are held", held, sick)
		}
		return agree(s, claims)
	})
}

// explained compares what explain says with what is written on the NodeClaim, and with the golden file.
func explained(ctx context.Context, t *testing.T, node string) {
	var e explain.Explanation
	eventually(ctx, t, "the NodeClaim says what explain says", func() error {
		require.NoError(t, json.Unmarshal([]byte(say(ctx, t, "explain", node, "-o", "json")), &e))
		if e.Written.State != explain.WrittenCurrent {
			return fmt.Errorf("%+v", e.Written)
		}
		return nil
	})
	require.Equal(t, explain.StateBlocked, e.State)
	require.True(t, *e.Written.Running)
	require.NotEmpty(t, e.Blockers)
	for _, format := range []string{"table", "wide"} {
		requireGolden(t, "explain-held."+format, nameless(say(ctx, t, "explain", e.NodeClaim, "-o", format), e))
	}
	var fromYAML explain.Explanation
	require.NoError(t, yaml.Unmarshal([]byte(say(ctx, t, "explain", node, "-o", "yaml")), &fromYAML))
	require.Equal(t, e.Blockers, fromYAML.Blockers)
}

// nameless takes out what is another in each run.
func nameless(text string, e explain.Explanation) string {
	return strings.NewReplacer(e.Node, "<node>", e.NodeClaim, "<nodeclaim>", e.Zone, "<zone>", e.InstanceType, "<instance type>").Replace(text)
}

// asReader looks with the right to read and nothing else, first without the Deployments, by which Karpenter is known.
func asReader(ctx context.Context, t *testing.T, node string) {
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{"autorepair.sh", "karpenter.sh"}, Resources: []string{"*"}},
		{APIGroups: []string{""}, Resources: []string{"nodes", "pods"}},
		{APIGroups: []string{"policy"}, Resources: []string{"poddisruptionbudgets"}},
	}
	now := "--now=" + time.Now().UTC().Format(time.RFC3339) // scores grow with time
	want := simulated(ctx, t, now)
	grant(t, "looker", rules...) //nolint:contextcheck // it has the test's
	for name, test := range map[string]struct {
		flags []string
		warn  string
	}{
		"who may not read Deployments is told what is assumed": {warn: "Karpenter is taken to be of an unknown version that does not repair nodes itself: say --karpenter-version and --karpenter-node-repair"},
		"and may say it": {flags: []string{"--karpenter-version=1.15.0", "--karpenter-node-repair=false"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, err := call(ctx, as("looker"), append([]string{"simulate", "-o", "json", now}, test.flags...)...)
			require.NoError(t, err)
			require.Equal(t, test.warn != "", errOut != "", errOut)
			require.Contains(t, errOut, test.warn)
			var got explain.Simulation
			require.NoError(t, json.Unmarshal([]byte(out), &got))
			require.Equal(t, ours(want.Held), ours(got.Held))
			_, _, err = call(ctx, as("looker"), append([]string{"explain", node}, test.flags...)...)
			require.NoError(t, err)
		})
	}
	grant(t, "blind", rules[1:]...) //nolint:contextcheck // it has the test's
	_, _, err := call(ctx, as("blind"), "simulate")
	require.ErrorContains(t, err, "nothing can be decided without it: you may not read nodeclaims.karpenter.sh")
	_, _, err = call(ctx, as("blind"), "explain", node)
	require.ErrorContains(t, err, "nothing can be decided without it: you may not read nodeclaims.karpenter.sh")
}

// recordedByKubectl holds the documented line of kubectl to be enough.
func recordedByKubectl(ctx context.Context, t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"cluster.yaml": {"get", "nodes,nodeclaims,nodepools,nodehealths,repairpolicies,noderepairs,repairpauses", "-o", "yaml"},
		"pods.yaml":    {"get", "pods,poddisruptionbudgets", "-A", "-o", "yaml"},
	} {
		text, err := shared.Kubectl(ctx, args...)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	now := time.Now().UTC().Format(time.RFC3339)
	want := simulated(ctx, t, "--now", now)
	got := simulated(ctx, t, "--now", now, "-f", dir, "--karpenter-version", "1.15.0")
	require.Equal(t, want, got)
}

// recordedByUs compares a recording with the cluster at a time at which nothing moves, and keeps it for the tests that need
// no cluster where that is asked for.
func recordedByUs(ctx context.Context, t *testing.T, name string) {
	file, got, _ := record(ctx, t)
	want := simulated(ctx, t, "--now", got.Time.UTC().Format(time.RFC3339))
	require.Equal(t, want, got)
	keep(t, file, name, got.Time.Time)
}

// keep copies a recording to where the tests without a cluster find it.
func keep(t *testing.T, file, name string, at time.Time) {
	t.Helper()
	if !golden.Updating() {
		return
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	root, err := cluster.Root()
	require.NoError(t, err)
	dir := filepath.Join(root, "pkg", "cli", "testdata", "recordings")
	old, err := filepath.Glob(filepath.Join(dir, "local-cluster-"+name+"-*.json"))
	require.NoError(t, err)
	for _, path := range old {
		require.NoError(t, os.Remove(path))
	}
	host, err := os.Hostname()
	require.NoError(t, err)
	text = bytes.ReplaceAll(text, []byte(`"`+host+`_`), []byte(`"controller_`))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "local-cluster-"+name+"-"+at.UTC().Format("20060102T150405Z")+".json"), text, 0o600))
}

// orderOfRepairs simulates the policy that enforces, applies it, and sees the NodeRepairs come in the order that was said.
func orderOfRepairs(ctx context.Context, t *testing.T) {
	enforcing := policySame(v1alpha1.ModeEnforce)
	text, err := yaml.Marshal(enforcing)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "enforce.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	var c explain.Comparison
	require.NoError(t, json.Unmarshal([]byte(say(ctx, t, "simulate", "--policy", file, "-o", "json")), &c))
	require.Empty(t, ours(c.Before.Repairs), "nothing is repaired while the policy is in mode DryRun")
	require.Len(t, ours(c.After.Repairs), 1, "the budget admits one")
	require.Len(t, c.Changes, sickOfSame, "%+v", c.Changes)
	var order []string
	for _, node := range append(ours(c.After.Repairs), ours(c.After.Held)...) {
		order = append(order, node.NodeClaim)
	}
	require.Len(t, order, sickOfSame)

	present := &v1alpha1.RepairPolicy{}
	require.NoError(t, shared.Client.Get(ctx, client.ObjectKey{Name: same}, present))
	present.Spec.Mode = v1alpha1.ModeEnforce
	require.NoError(t, shared.Client.Update(ctx, present))
	samples, agreed := 0, 0
	kept := false
	eventually(ctx, t, "all of them are repaired", func() error {
		repairs := repairsOfSame(ctx, t)
		if len(repairs) > 0 && lo.SomeBy(repairs, func(r v1alpha1.NodeRepair) bool { return !r.Finished() }) {
			file, s, claims := record(ctx, t)
			samples++
			if agree(s, claims) == nil {
				agreed++
				if !kept && len(ours(s.AtWork)) == 1 && len(ours(s.Held)) > 0 {
					kept = true
					keep(t, file, "at-work", s.Time.Time)
				}
			}
		}
		if len(repairs) < sickOfSame || lo.SomeBy(repairs, func(r v1alpha1.NodeRepair) bool { return !r.Finished() }) {
			return errors.New(strings.Join(lo.Map(repairs, func(r v1alpha1.NodeRepair, _ int) string { return r.Name + " " + string(r.Status.Phase) }), ", "))
		}
		return nil
	})
	got := lo.Map(repairsOfSame(ctx, t), func(r v1alpha1.NodeRepair, _ int) string { return r.Spec.NodeClaim.Name })
	require.Equal(t, order, got, "the NodeRepairs came in the order that simulate said")
	t.Logf("in the storm simulate and the NodeClaims said the same in %d of %d recordings", agreed, samples)
	require.Positive(t, agreed)
}

// repairsOfSame in the order in which they were made.
func repairsOfSame(ctx context.Context, t *testing.T) []v1alpha1.NodeRepair {
	t.Helper()
	list := &v1alpha1.NodeRepairList{}
	require.NoError(t, shared.Client.List(ctx, list, client.MatchingLabels{v1alpha1.NodePoolLabel: same}))
	slices.SortFunc(list.Items, func(a, b v1alpha1.NodeRepair) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return list.Items
}

// withoutController stops the controller: it leaves its lease, and explain says what that means.
func withoutController(ctx context.Context, t *testing.T) {
	require.NoError(t, controller.Stop())
	defer func() {
		var err error
		controller, err = shared.StartController(ctx)
		require.NoError(t, err)
	}()
	var e explain.Explanation
	require.NoError(t, json.Unmarshal([]byte(say(ctx, t, "explain", initialized(ctx, t)[0], "-o", "json")), &e))
	require.NotNil(t, e.Written.Running, "%+v", e.Written)
	require.False(t, *e.Written.Running)
	require.Contains(t, e.Summary, "no controller is at work")
}

// removeSame leaves nothing behind for the tests after it.
func removeSame(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, object := range []client.Object{&v1alpha1.RepairPolicy{}, &corev1.Namespace{}, &karpv1.NodePool{}} {
		object.SetName(same)
		require.NoError(t, client.IgnoreNotFound(shared.Client.Delete(ctx, object)))
	}
	require.NoError(t, shared.Client.DeleteAllOf(ctx, &karpv1.NodeClaim{}, client.MatchingLabels{karpv1.NodePoolLabelKey: same}))
	eventually(ctx, t, "all of it is gone", func() error {
		claims := &karpv1.NodeClaimList{}
		nodes := &corev1.NodeList{}
		for _, list := range []client.ObjectList{claims, nodes} {
			if err := shared.Client.List(ctx, list, client.MatchingLabels{karpv1.NodePoolLabelKey: same}); err != nil {
				return err //nolint:wrapcheck // of a test
			}
		}
		if n := len(claims.Items) + len(nodes.Items); n > 0 {
			return fmt.Errorf("%d NodeClaims and Nodes are left", n)
		}
		return nil
	})
	require.NoError(t, shared.Client.DeleteAllOf(ctx, &v1alpha1.NodeRepair{}, client.MatchingLabels{v1alpha1.NodePoolLabel: same}))
	class := cluster.NodeClass(same)
	require.NoError(t, client.IgnoreNotFound(shared.Client.Delete(ctx, class)))
}
