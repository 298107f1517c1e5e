// Package architecture holds the floors of the project: imports go downward only.
package architecture

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/autorepair-sh/karpenter-autorepair/"

// floors from the ground up; a package belongs to the longest prefix that matches it.
var floors = []struct {
	name     string
	packages []string
	siblings bool // packages of the floor may import each other
}{
	{name: "words", packages: []string{"pkg/apis", "pkg/health", "pkg/scheme", "pkg/version"}, siblings: true},
	{name: "pure", packages: []string{"pkg/diagnosis", "pkg/decision", "pkg/explain", "pkg/replacement", "pkg/rules", "pkg/tracking"}, siblings: true},
	{name: "ports", packages: []string{"pkg/detector"}},
	{name: "adapters", packages: []string{"pkg/detector/cluster", "pkg/detector/node", "pkg/host", "pkg/disruption", "pkg/repair", "pkg/snapshot", "pkg/events", "pkg/metrics", "pkg/recording"}},
	{name: "loops", packages: []string{"pkg/controllers", "pkg/agent", "pkg/cleanup", "pkg/cli"}, siblings: true},
	{name: "wiring", packages: []string{"pkg/operator", "pkg/inside", "cmd", "charts", "test", "tools"}, siblings: true},
}

// named are the imports between siblings that the design names.
var named = map[string]string{
	"pkg/disruption":    "pkg/snapshot", // the Method gathers what it decides on
	"pkg/detector/node": "pkg/host",     // the detectors of the agent look through it
	"pkg/repair":        "pkg/events",   // each phase is told by the table of events
	"pkg/recording":     "pkg/snapshot", // which says what decisions rest on
}

func floorOf(pkg string) (floor int, prefix string) {
	floor = -1
	for i, f := range floors {
		for _, p := range f.packages {
			if (pkg == p || strings.HasPrefix(pkg, p+"/")) && len(p) > len(prefix) {
				floor, prefix = i, p
			}
		}
	}
	return floor, prefix
}

func TestImportsGoDownwardOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"...").Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Greater(t, len(lines), 5, "go list found too few packages for this test to mean anything")
	for _, line := range lines {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		floor, prefix := floorOf(pkg)
		require.GreaterOrEqual(t, floor, 0, "package %s stands on no floor: add it to this test and to the design", pkg)
		for _, imported := range fields[1:] {
			if !strings.HasPrefix(imported, module) {
				continue
			}
			target := strings.TrimPrefix(imported, module)
			targetFloor, targetPrefix := floorOf(target)
			switch {
			case targetFloor > floor:
				t.Errorf("%s (%s) imports %s (%s): imports go downward only", pkg, floors[floor].name, target, floors[targetFloor].name)
			case targetFloor == floor && prefix != targetPrefix && !floors[floor].siblings && named[prefix] != targetPrefix:
				t.Errorf("%s imports its sibling %s: name it in this test and in the design, or move what they share down", pkg, target)
			}
		}
	}
}

// pureForbids lists what the pure floor never imports, directly; what follows from it are clocks, clients and logs.
var pureForbids = []string{"context", "log", "log/slog", "os", "net", "net/http", "sigs.k8s.io/controller-runtime", "k8s.io/client-go", "github.com/go-logr/logr"}

func TestPureFloorTouchesNothing(t *testing.T) {
	for _, pkg := range floors[1].packages {
		out, err := exec.Command("go", "list", "-f", `{{range .Imports}}{{.}} {{end}}`, module+pkg).Output()
		require.NoError(t, err, pkg)
		for _, imported := range strings.Fields(string(out)) {
			for _, forbidden := range pureForbids {
				if imported == forbidden || strings.HasPrefix(imported, forbidden+"/") {
					t.Errorf("%s imports %s: the pure floor takes values and now, and returns values", pkg, imported)
				}
			}
		}
	}
}

// What people run on other clouds knows nothing of AWS.
func TestOnlyTheProgramsForAWSKnowAWS(t *testing.T) {
	for _, program := range []string{"cmd/controller", "cmd/agent", "cmd/kubectl-autorepair"} {
		out, err := exec.Command("go", "list", "-deps", module+program).Output()
		require.NoError(t, err, program)
		packages := strings.Fields(string(out))
		require.Greater(t, len(packages), 100, "go list found too few packages for this test to mean anything")
		for _, pkg := range packages {
			require.False(t, strings.HasPrefix(pkg, "github.com/aws/"), "%s is built with %s", program, pkg)
		}
	}
}
