package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/test/suite"
)

// olderKarpenters are those that bin/karpenter-VERSION runs, from tools/karpenter-VERSION.
var olderKarpenters = []string{"1.12", "1.9"}

func TestBesideOlderKarpenters(t *testing.T) {
	for _, version := range olderKarpenters {
		t.Run(version, func(t *testing.T) {
			c := older(t, version, "")
			controller, err := c.StartController(context.Background())
			require.NoError(t, err)
			t.Cleanup(func() { _ = controller.Stop() })
			t.Run("a sick node is replaced", func(t *testing.T) {
				s := beginOn(t, c, "older-basic")
				s.policy()
				s.sickNodeIsReplaced(s.pool(3, budgets(karpv1.Budget{Nodes: "1"}))[0].Name)
				s.settles(3)
			})
			t.Run("the replacement outlives consolidation while pods are pending and a node drifts", func(t *testing.T) {
				s := beginOn(t, c, "older-consolidation")
				s.replacementOutlivesConsolidation()
			})
		})
	}
}

// Before 1.15 Karpenter's own repair knows no veto and does not drain: two repairers of one node are avoided by ours
// standing by.
func TestBesideAnOlderKarpenterThatRepairsItselfOursStandsBy(t *testing.T) {
	version := olderKarpenters[0]
	c := older(t, version, "NodeRepair=true")
	controller, err := c.StartController(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { _ = controller.Stop() })
	s := beginOn(t, c, "older-own-repair")
	node := s.pool(1, budgets(karpv1.Budget{Nodes: "1"}))[0].Name
	s.policy()
	s.breakNode(node)
	s.blocked(node, "OtherRepairer")
	s.leftAlone(node)
}

// older starts a cluster with an older Karpenter and the CRDs of its module.
func older(t *testing.T, version, gates string) *cluster.Cluster {
	t.Helper()
	suite.Need(t)
	binary, err := cluster.Binary("karpenter-" + version)
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		t.Skipf("SKIPPED: needs bin/karpenter-%s: run make test-compat", version)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	name := "older-" + strings.ReplaceAll(version, ".", "-") + lo.Ternary(gates == "", "", "-repairs")
	c, err := cluster.Up(ctx, cluster.Options{Name: name, Karpenter: binary, FeatureGates: gates})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Down(context.Background())) })
	root, err := cluster.Root()
	require.NoError(t, err)
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/karpenter")
	list.Dir = filepath.Join(root, "tools", "karpenter-"+version)
	dir, err := list.Output()
	require.NoError(t, err)
	for _, pattern := range []string{"pkg/apis/crds/*.yaml", "kwok/apis/crds/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(string(bytes.TrimSpace(dir)), pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			replaceCRD(ctx, t, c, file)
		}
	}
	require.NoError(t, c.Part(ctx, "stop", "karpenter"))
	require.NoError(t, c.Part(ctx, "start", "karpenter"))
	require.NoError(t, c.Install(ctx))
	return c
}

// replaceCRD makes a CRD what a file says, nothing newer left in it.
func replaceCRD(ctx context.Context, t *testing.T, c *cluster.Cluster, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	want, got := &apiextensionsv1.CustomResourceDefinition{}, &apiextensionsv1.CustomResourceDefinition{}
	require.NoError(t, yaml.Unmarshal(text, want))
	err = c.Client.Get(ctx, client.ObjectKeyFromObject(want), got)
	if client.IgnoreNotFound(err) == nil && err != nil {
		require.NoError(t, c.Client.Create(ctx, want), fmt.Sprintf("creating %s", file))
		return
	}
	require.NoError(t, err)
	got.Spec = want.Spec
	require.NoError(t, c.Client.Update(ctx, got), fmt.Sprintf("replacing what %s defines", file))
}

// sickNodeIsReplaced breaks a node and holds that one replacement takes its place.
func (s *scenario) sickNodeIsReplaced(sick string) v1alpha1.NodeRepair {
	s.Helper()
	claim := s.claim(sick)
	s.breakNode(sick)
	repair := s.repairEnds(v1alpha1.PhaseSucceeded)
	s.gone(sick)
	require.Equal(s, claim.UID, repair.Spec.NodeClaim.UID)
	require.Equal(s, cluster.Fault.Reason, repair.Spec.Cause.Reason)
	require.Len(s, repair.Status.Replacements, 1)
	return repair
}
