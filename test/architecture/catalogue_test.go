package architecture

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/agent"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/node"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/rules"
)

// notYet are sources of the catalogue that nothing is behind: those of EC2's status checks, and of NodeClaims whose
// node never registers, which have no NodeHealth.
var notYet = []string{"ec2", "nodeclaim"}

// statedIn are the files of the sources that know their reasons by name, below pkg.
var statedIn = map[string][]string{
	"agent":             {"agent/agent.go"},
	"interfaces":        {"detector/node/interfaces.go"},
	"routes":            {"detector/node/routes.go"},
	"card-counters":     {"detector/node/cardcounters.go", "detector/node/efacounters.go"},
	"network-settings":  {"detector/node/networksettings.go", "detector/node/rejectrules.go"},
	"ipamd":             {"detector/node/podnetwork.go"},
	"kube-proxy":        {"detector/node/podnetwork.go"},
	"mounts":            {"detector/node/mounts.go"},
	"xfs-free-space":    {"detector/node/xfs.go"},
	"disks":             {"detector/node/disks.go"},
	"processes":         {"detector/node/processes.go", "detector/node/zombies.go"},
	"clock":             {"detector/node/clock.go"},
	"memory-errors":     {"detector/node/memory.go"},
	"container-runtime": {"detector/node/runtime.go"},
	"kubelet-health":    {"detector/node/kubelethealth.go"},
	"systemd-units":     {"detector/node/units.go"},
	"nvidia":            {"detector/node/nvidia.go", "detector/node/nvidia_judge.go"},
	"kubelet":           {"detector/cluster/kubelet.go"},
	"node-conditions":   {"detector/cluster/node-conditions.yaml"},
	"node-lifecycle":    {"detector/cluster/lifecycle.go"},
	"node-readiness":    {"detector/cluster/readiness.go"},
	"pods":              {"detector/cluster/pods.go"},
	"repair-request":    {"detector/cluster/request.go"},
}

func sources(t *testing.T) []string {
	t.Helper()
	lines, err := rules.New(rules.Custom{})
	require.NoError(t, err)
	detectors, err := node.All(host.New(t.TempDir()), clock.RealClock{}, node.Options{}, lines)
	require.NoError(t, err)
	names := append([]string{agent.SourceAgent}, cluster.Sources...)
	for _, d := range detectors {
		names = append(names, d.Spec().Name)
	}
	return names
}

func TestTheCatalogueNamesSourcesThatThereAre(t *testing.T) {
	known := sources(t)
	named := map[string]bool{}
	for _, r := range health.Reasons {
		for _, source := range r.Sources {
			named[source] = true
			if !slices.Contains(notYet, source) {
				require.Contains(t, known, source, "%s", r.Name)
			}
		}
	}
	for _, source := range known {
		require.True(t, named[source], "no reason of the catalogue is stated by the source %s", source)
	}
	for _, source := range notYet {
		require.NotContains(t, known, source, "it is there by now: take it off the list")
	}
}

// linesOf gives the sources whose lines mean a reason, or count toward it.
func linesOf(reason health.Reason) map[string]bool {
	of := map[string]bool{}
	for _, rule := range health.LineRules {
		name := rule.Reason
		if before, after, family := strings.Cut(name, "${code}"); family {
			name = before + "<n>" + after
		}
		own, _, _ := strings.Cut(reason.Name, " (")
		if name == own || rule.CountsToward == reason.Name {
			of[rule.Stream.Source()] = true
		}
	}
	return of
}

func TestEachSourceOfAReasonCanStateIt(t *testing.T) {
	for _, reason := range health.Reasons {
		lines := linesOf(reason)
		for source := range lines {
			require.Contains(t, reason.Sources, source, "a line of it means %s", reason.Name)
		}
		for _, source := range reason.Sources {
			if !slices.Contains(notYet, source) && !lines[source] {
				require.True(t, states(t, source, reason), "%s names %s, which neither has a line for it nor knows it by name", reason.Name, source)
			}
		}
	}
}

// states says whether a source knows a reason by name; of a family by how its names begin.
func states(t *testing.T, source string, reason health.Reason) bool {
	t.Helper()
	name, _, family := strings.Cut(reason.Name, "<n>")
	for _, file := range statedIn[source] {
		text, err := os.ReadFile(filepath.Join("..", "..", "pkg", file))
		require.NoError(t, err)
		for _, form := range []string{`"` + name + `"`, "health.Reason" + name + ",", "{reason: " + name + ","} {
			if strings.Contains(string(text), form) {
				return true
			}
		}
		if family && strings.Contains(string(text), `"`+name+"%d") {
			return true
		}
	}
	return false
}
