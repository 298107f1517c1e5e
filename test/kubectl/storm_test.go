package kubectl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/cli"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// namespace of the workload.
const namespace = "kubectl-autorepair"

// pools and what becomes of their nodes: of storm two are replaced, and stay under watch; of held two wait, since
// somebody has paused it; of stuck one waits for a pod that may not be disrupted; of done one is replaced because a
// person asks for it.
var pools = []struct {
	name  string
	nodes int32
	sick  int
}{
	{"storm", 3, 2}, {"held", 2, 2}, {"stuck", 1, 1}, {"done", 2, 0},
}

func policyOf(pool string) *v1alpha1.RepairPolicy {
	return cluster.RepairPolicy(pool, func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Tolerate.Duration = time.Second
		p.Spec.Replacement.VerifyFor = &metav1.Duration{Duration: time.Second}
		switch pool {
		case "storm":
			p.Spec.Replacement.VerifyFor.Duration = 24 * time.Hour
		case "stuck":
			p.Spec.Rules[0].DrainBound = nil
		}
	})
}

// nodesOf gives the names of the Nodes of a NodePool that are Initialized.
func nodesOf(ctx context.Context, t *testing.T, pool string) []string {
	t.Helper()
	list := &corev1.NodeList{}
	require.NoError(t, shared.Client.List(ctx, list, client.MatchingLabels{karpv1.NodePoolLabelKey: pool, karpv1.NodeInitializedLabelKey: "true"}))
	var names []string
	for _, node := range list.Items {
		if node.DeletionTimestamp.IsZero() {
			names = append(names, node.Name)
		}
	}
	return names
}

func status(ctx context.Context, t *testing.T) cli.Status {
	t.Helper()
	var s cli.Status
	require.NoError(t, json.Unmarshal([]byte(say(ctx, t, "status", "-o", "json")), &s))
	return s
}

func pool(s cli.Status, name string) cli.PoolStatus {
	for _, p := range s.NodePools {
		if p.Name == name {
			return p
		}
	}
	return cli.PoolStatus{}
}

// TestStorm tells one story: what the commands say before, in and after a storm, and what they do.
func TestStorm(t *testing.T) {
	ctx := needCluster(t)
	require.NoError(t, shared.EnsureNamespace(ctx, namespace))
	for _, p := range pools {
		require.NoError(t, shared.Create(ctx, cluster.NodeClass(p.name), cluster.NodePool(p.name), policyOf(p.name),
			cluster.Deployment(namespace, p.name, p.nodes, func(d *appsv1.Deployment) {
				if p.name == "stuck" {
					d.Spec.Template.Annotations = map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"}
				}
			})))
	}
	eventually(ctx, t, "all nodes stand", func() error {
		for _, p := range pools {
			if n := len(nodesOf(ctx, t, p.name)); n != int(p.nodes) {
				return fmt.Errorf("NodePool %s has %d nodes", p.name, n)
			}
		}
		return nil
	})
	eventually(ctx, t, "all nodes are watched", func() error {
		if s := status(ctx, t); s.Summary.Unwatched > 0 || s.Summary.Nodes != 8 || s.Controller == nil {
			return fmt.Errorf("%+v", s.Summary)
		}
		return nil
	})
	t.Run("before it", func(t *testing.T) { requireGolden(t, "status-before.txt", say(ctx, t, "status")) })
	t.Run("a pause is written, and seen by who watches", func(t *testing.T) { pauseIsSeen(ctx, t) })
	t.Run("in it", func(t *testing.T) { inTheStorm(ctx, t) })
	t.Run("the node that a person asks for is replaced", func(t *testing.T) { repairIsDone(ctx, t) })
	t.Run("nothing is written by a dry run", func(t *testing.T) { dryRun(ctx, t) })
	t.Run("resumed, the repairs go on", func(t *testing.T) { resumeGoesOn(ctx, t) })
	t.Run("after it", func(t *testing.T) {
		for _, format := range []string{"table", "wide"} {
			requireGolden(t, "history-after."+format, say(ctx, t, "history", "--nodepool", "done", "-o", format))
		}
	})
	t.Run("every pause is undone", func(t *testing.T) { pausesAreUndone(ctx, t) })
}

// pauseIsSeen pauses a NodePool while a watch is open.
func pauseIsSeen(ctx context.Context, t *testing.T) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		options := cli.NewOptions(strings.NewReader(""), writer, os.Stderr)
		root := cli.NewRoot(options)
		root.SetArgs([]string{"--kubeconfig", shared.Kubeconfig, "status", "--watch", "-o", "json"})
		err := root.ExecuteContext(watching)
		_ = writer.CloseWithError(errors.Join(io.EOF, err))
		ended <- err
	}()
	shown := json.NewDecoder(reader)
	var first cli.Status
	require.NoError(t, shown.Decode(&first))
	require.Equal(t, 8, first.Summary.Nodes)
	require.Empty(t, first.Paused)

	requireGolden(t, "pause-held.txt", say(ctx, t, "pause", "nodepool", "held", "--for", "2h", "--yes"))
	for {
		var next cli.Status
		require.NoError(t, shown.Decode(&next), "the watch has to show the pause")
		if len(next.Paused) == 1 && next.Paused[0].What == "nodepool/held" {
			require.Contains(t, next.Paused[0].By, "kubectl-autorepair (")
			break
		}
	}
	stop()
	go func() { _, _ = io.Copy(io.Discard, reader) }() // lets it finish what it is writing
	require.NoError(t, <-ended, "a watch that is told to end has not failed")
}

// inTheStorm breaks nodes and waits until everything has come to rest where it waits for long.
func inTheStorm(ctx context.Context, t *testing.T) {
	for _, p := range pools {
		for _, node := range nodesOf(ctx, t, p.name)[:p.sick] {
			require.NoError(t, shared.Break(ctx, node))
		}
	}
	eventually(ctx, t, "the storm has come to rest", func() error {
		s := status(ctx, t)
		for _, r := range s.Repairing {
			if r.Phase != v1alpha1.PhaseVerifying {
				return fmt.Errorf("%s is in phase %s", r.NodeRepair, r.Phase)
			}
		}
		for _, w := range s.Waiting {
			if len(w.Blockers) == 0 || w.Blockers[0].Reason == "Tolerating" {
				return fmt.Errorf("%s waits for %v", w.Node, w.Blockers)
			}
		}
		if len(s.Repairing) != 2 || len(s.Waiting) != 3 || s.Summary.Nodes != 8 {
			return fmt.Errorf("%d repairing, %d waiting, %+v", len(s.Repairing), len(s.Waiting), s.Summary)
		}
		return nil
	})
	for _, format := range []string{"table", "wide"} {
		requireGolden(t, "status-storm."+format, say(ctx, t, "status", "-o", format))
	}
	var fromJSON, fromYAML cli.Status
	require.NoError(t, json.Unmarshal([]byte(say(ctx, t, "status", "-o", "json")), &fromJSON))
	require.NoError(t, yaml.Unmarshal([]byte(say(ctx, t, "status", "-o", "yaml")), &fromYAML))
	fromYAML.At, fromYAML.Controller = fromJSON.At, fromJSON.Controller
	require.Equal(t, fromJSON, fromYAML)
}

// repairIsDone asks for the repair of a node that is well, by the name of its NodeClaim.
func repairIsDone(ctx context.Context, t *testing.T) {
	node := nodesOf(ctx, t, "done")[0]
	claims, err := shared.NodeClaims(ctx, "done")
	require.NoError(t, err)
	var claim string
	for _, c := range claims {
		if c.Status.NodeName == node {
			claim = c.Name
		}
	}
	requireGolden(t, "repair-done.txt", say(ctx, t, "repair", claim, "--yes"))
	eventually(ctx, t, "the node is gone, and history tells of it", func() error {
		var h cli.History
		if err := json.Unmarshal([]byte(say(ctx, t, "history", "-o", "json", "--nodepool", "done")), &h); err != nil {
			return err //nolint:wrapcheck // of a test
		}
		if len(h.Repairs) != 1 || h.Repairs[0].Outcome != v1alpha1.PhaseSucceeded {
			return fmt.Errorf("%+v", h.Repairs)
		}
		return nil
	})
	require.NotContains(t, nodesOf(ctx, t, "done"), node)
	detail := say(ctx, t, "history", node)
	require.Contains(t, detail, "RepairRequested")
	require.Contains(t, detail, "of which 1 had to move: "+namespace+"/done-")
	_, _, err = call(ctx, nil, "repair", node, "--yes")
	require.ErrorContains(t, err, fmt.Sprintf("there is no Node or NodeClaim %q", node))
}

func dryRun(ctx context.Context, t *testing.T) {
	node := nodesOf(ctx, t, "done")[0]
	require.Contains(t, say(ctx, t, "repair", node, "--dry-run=server"), "nothing was written")
	require.Contains(t, say(ctx, t, "pause", "everything", "--dry-run=server"), "nothing was written")
	_, errOut, err := call(ctx, nil, "pause", "everything")
	require.ErrorContains(t, err, "standard input is no terminal")
	require.Empty(t, errOut)
	is := &corev1.Node{}
	require.NoError(t, shared.Client.Get(ctx, client.ObjectKey{Name: node}, is))
	require.NotContains(t, is.Annotations, v1alpha1.RepairRequestAnnotation)
	pauses := &v1alpha1.RepairPauseList{}
	require.NoError(t, shared.Client.List(ctx, pauses))
	require.Empty(t, pauses.Items)
}

// resumeGoesOn ends the pause of the NodePool; both of its nodes are replaced then, one after the other.
func resumeGoesOn(ctx context.Context, t *testing.T) {
	requireGolden(t, "resume-held.txt", say(ctx, t, "resume", "nodepool", "held", "--yes"))
	eventually(ctx, t, "both nodes have been replaced", func() error {
		if p := pool(status(ctx, t), "held"); p.Sick > 0 || p.Repairing > 0 || p.Nodes != 2 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	require.Equal(t, "nothing is paused\n", say(ctx, t, "resume"))
}

// pausesAreUndone pauses each kind of thing, sees that the controller says so, and that nothing is left of it.
func pausesAreUndone(ctx context.Context, t *testing.T) {
	stuck := nodesOf(ctx, t, "stuck")[0]
	claims, err := shared.NodeClaims(ctx, "stuck")
	require.NoError(t, err)
	claim := claims[0].Name
	says := func(reason string) func() error {
		return func() error {
			s := status(ctx, t)
			for _, w := range s.Waiting {
				for _, b := range w.Blockers {
					if w.NodeClaim == claim && b.Reason == reason {
						return nil
					}
				}
			}
			return fmt.Errorf("%+v", s.Waiting)
		}
	}
	for _, test := range []struct {
		what   []string
		object client.Object
		reason string
	}{
		{[]string{"node", stuck}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: stuck}}, "Vetoed"},
		{[]string{"nodepool", "stuck"}, &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "stuck"}}, "NodePoolPaused"},
		{[]string{"policy", "stuck"}, &v1alpha1.RepairPolicy{ObjectMeta: metav1.ObjectMeta{Name: "stuck"}}, "Paused"},
		{[]string{"everything"}, nil, "AllPaused"},
	} {
		t.Run(test.what[0], func(t *testing.T) {
			before := writtenByPeople(ctx, t, test.object)
			say(ctx, t, append([]string{"pause", "--for", "1h", "--yes"}, test.what...)...)
			eventually(ctx, t, "the controller says so", says(test.reason))
			paused := say(ctx, t, "resume")
			requireGolden(t, "paused-"+test.what[0]+".txt", paused)
			say(ctx, t, append([]string{"resume", "--yes"}, test.what...)...)
			require.Equal(t, before, writtenByPeople(ctx, t, test.object))
			require.Equal(t, "nothing is paused\n", say(ctx, t, "resume"))
			eventually(ctx, t, "the controller says so no more", func() error {
				if says(test.reason)() == nil {
					return errors.New("it still does")
				}
				return nil
			})
		})
	}
}

// writtenByPeople gives what pauses are written into.
func writtenByPeople(ctx context.Context, t *testing.T, object client.Object) string {
	t.Helper()
	if object == nil {
		return ""
	}
	require.NoError(t, shared.Client.Get(ctx, client.ObjectKeyFromObject(object), object))
	var spec any
	if policy, ok := object.(*v1alpha1.RepairPolicy); ok {
		spec = policy.Spec
	}
	accessor, err := meta.Accessor(object)
	require.NoError(t, err)
	text, err := json.Marshal([]any{accessor.GetAnnotations(), spec})
	require.NoError(t, err)
	return string(text)
}
