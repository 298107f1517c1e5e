package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

func TestRepairRequest(t *testing.T) {
	for name, test := range map[string]struct {
		onNode, onClaim *string
		want            []string
		wantSeverity    v1alpha1.Severity
		wantMessage     string
	}{
		"nobody asks":                       {},
		"Replace on the Node":               {onNode: new("Replace"), want: []string{"RepairRequested Replace"}, wantSeverity: v1alpha1.SeverityFatal, wantMessage: "asks for Replace"},
		"Reboot on the NodeClaim":           {onClaim: new("Reboot"), want: []string{"RepairRequested Reboot"}, wantSeverity: v1alpha1.SeverityFatal, wantMessage: "on the NodeClaim"},
		"one on each":                       {onNode: new("Replace"), onClaim: new("Reboot"), want: []string{"RepairRequested Reboot", "RepairRequested Replace"}, wantSeverity: v1alpha1.SeverityFatal},
		"a word that is no action":          {onNode: new("replace"), want: []string{"InvalidRepairRequest Node"}, wantSeverity: v1alpha1.SeverityWarning, wantMessage: `is "replace": write Replace or Reboot`},
		"None is nothing that one asks for": {onNode: new("None"), want: []string{"InvalidRepairRequest Node"}, wantSeverity: v1alpha1.SeverityWarning, wantMessage: "write Replace or Reboot"},
		"nothing at all":                    {onClaim: new(""), want: []string{"InvalidRepairRequest NodeClaim"}, wantSeverity: v1alpha1.SeverityWarning, wantMessage: "write Replace or Reboot"},
	} {
		t.Run(name, func(t *testing.T) {
			node, claim := newNode(), newClaim()
			if test.onNode != nil {
				node.Annotations = map[string]string{v1alpha1.RepairRequestAnnotation: *test.onNode}
			}
			if test.onClaim != nil {
				claim.Annotations = map[string]string{v1alpha1.RepairRequestAnnotation: *test.onClaim}
			}
			result := detect(t, Input{Node: node, NodeClaim: claim})
			require.ElementsMatch(t, test.want, named(result))
			for _, finding := range report(t, result, SourceRepairRequest).Findings {
				require.Equal(t, v1alpha1.CategoryRequest, finding.Category)
				require.Equal(t, test.wantSeverity, finding.Severity)
				require.Contains(t, finding.Message, test.wantMessage)
				require.Equal(t, ago(0), finding.Since)
			}
		})
	}
}
