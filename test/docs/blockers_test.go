package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// constants gives the values of a package's string constants of a type, in the order of the source.
func constants(t *testing.T, file, typeName string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	var out []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != typeName {
			return true
		}
		for _, value := range spec.Values {
			text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			require.NoError(t, err)
			out = append(out, text)
		}
		return true
	})
	require.NotEmpty(t, out, "%s has no constant of type %s", file, typeName)
	return out
}

// section gives the lines of a document below a heading, to the next of any level.
func section(t *testing.T, text, title string) []string {
	t.Helper()
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if found := heading.FindStringSubmatch(line); found != nil && found[1] == title {
			for j := i + 1; j < len(lines); j++ {
				if heading.MatchString(lines[j]) {
					return lines[i+1 : j]
				}
			}
			return lines[i+1:]
		}
	}
	require.Fail(t, "there is no heading "+title)
	return nil
}

var row = regexp.MustCompile("^\\| `([A-Za-z]+)` \\| (.+) \\| (.+) \\|$")

// Each reason for which nothing happens has a row with what lifts it.
func TestTroubleshootingListsEveryBlocker(t *testing.T) {
	root := root(t)
	want := constants(t, filepath.Join(root, "pkg", "decision", "decision.go"), "BlockerReason")
	var got []string
	for _, line := range section(t, readFile(t, filepath.Join(root, "docs", "troubleshooting.md")), "What blocks a repair") {
		if found := row.FindStringSubmatch(line); found != nil {
			got = append(got, found[1])
		}
	}
	require.ElementsMatch(t, want, got)
}

// Each phase that a person may see is explained.
func TestConceptsNameEveryPhase(t *testing.T) {
	root := root(t)
	text := strings.Join(section(t, readFile(t, filepath.Join(root, "docs", "concepts.md")), "Repair"), "\n")
	for _, phase := range constants(t, filepath.Join(root, "pkg", "apis", "v1alpha1", "noderepair_types.go"), "Phase") {
		require.Contains(t, text, phase, "docs/concepts.md does not say what happens in the phase")
	}
}

// Each condition that a person finds on a NodeClaim is explained.
func TestConceptsNameEveryCondition(t *testing.T) {
	text := strings.Join(section(t, readFile(t, filepath.Join(root(t), "docs", "concepts.md")), "Conditions on the NodeClaim"), "\n")
	conditions := []string{v1alpha1.ConditionUnhealthy, v1alpha1.ConditionRepairBlocked, v1alpha1.ConditionRepairing}
	for _, category := range health.Categories {
		conditions = append(conditions, health.ConditionType(category))
	}
	for _, condition := range conditions {
		require.Contains(t, text, "`"+strings.TrimPrefix(condition, v1alpha1.Group+"/")+"`")
	}
}

// Each annotation, label and taint of ours that can be met on an object of Karpenter's or the cluster's is accounted for.
func TestBesideKarpenterNamesWhatIsWritten(t *testing.T) {
	text := strings.Join(section(t, readFile(t, filepath.Join(root(t), "docs", "beside-karpenter.md")), "What is written on Karpenter's objects"), "\n")
	for _, key := range []string{
		v1alpha1.UnhealthyTaintKey, v1alpha1.FenceOwnerAnnotation, v1alpha1.FenceRestoreAnnotation, v1alpha1.GuardedAnnotation, v1alpha1.NodeRepairLabel,
		karpv1.DoNotDisruptAnnotationKey, karpv1.DoNotRepairAnnotationKey, karpv1.NodeClaimTerminationTimestampAnnotationKey,
	} {
		require.Contains(t, text, "`"+key+"`")
	}
}
