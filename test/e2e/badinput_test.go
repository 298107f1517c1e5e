package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// kwokUnhealthy makes a finding of the condition that Karpenter's kwok provider repairs itself.
const kwokUnhealthy = `- conditionType: KWOKUnhealthy
  conditionStatus: "True"
  finding:
    category: Kernel
    severity: Fatal
`

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (s *scenario) policyCondition(name, conditionType string, status metav1.ConditionStatus) string {
	s.Helper()
	var message string
	s.eventually(fmt.Sprintf("condition %s of RepairPolicy %s is %s", conditionType, name, status), func() error {
		policy := &v1alpha1.RepairPolicy{}
		if err := s.c.Client.Get(s.ctx, client.ObjectKey{Name: name}, policy); err != nil {
			return err
		}
		condition := meta.FindStatusCondition(policy.Status.Conditions, conditionType)
		if condition == nil || condition.Status != status {
			return fmt.Errorf("it is %+v", condition)
		}
		message = condition.Message
		return nil
	})
	return message
}

func TestAPolicyThatSelectsNothingSaysSo(t *testing.T) {
	t.Parallel()
	s := begin(t, "selects-nothing")
	s.policy()
	message := s.policyCondition(s.name, v1alpha1.PolicyConditionSelects, metav1.ConditionFalse)
	require.NotEmpty(t, message)
}

func TestAnUnknownReasonIsNamed(t *testing.T) {
	t.Parallel()
	s := begin(t, "unknown-reason")
	s.policy(func(p *v1alpha1.RepairPolicy) {
		p.Spec.Rules[0].Match = v1alpha1.FindingMatch{Reasons: []string{"InterfaceNotUpp"}}
	})
	message := s.policyCondition(s.name, v1alpha1.PolicyConditionReasonsKnown, metav1.ConditionFalse)
	require.Contains(t, message, "InterfaceNotUpp")
	require.Contains(t, message, "InterfaceNotUp", "the message names what may have been meant")
}

func TestAPatternThatDoesNotCompileRepairsNothing(t *testing.T) {
	t.Parallel()
	s := begin(t, "bad-pattern")
	node := s.pool(1)[0].Name
	policy := cluster.RepairPolicy(s.name, func(p *v1alpha1.RepairPolicy) { p.Spec.Rules[0].Match.ReasonPattern = "Fork(" })
	if err := s.c.Client.Create(s.ctx, policy); err != nil {
		require.Contains(t, err.Error(), "reasonPattern", "the API server refuses it, and names the field")
		return
	}
	message := s.policyCondition(s.name, v1alpha1.PolicyConditionReady, metav1.ConditionFalse)
	require.Contains(t, message, "Fork(")
	s.breakNode(node)
	s.blocked(node, "PolicyInvalid")
	s.leftAlone(node)
}

func TestANodeHealthWithoutANodeHarmsNothing(t *testing.T) {
	t.Parallel()
	s := begin(t, "no-such-node")
	node := s.pool(1)[0].Name
	s.policy()
	orphan := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: "no-such-node"}}
	orphan.Sources = []v1alpha1.Source{{Name: "test", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel}}}
	orphan.Findings = []v1alpha1.Finding{{Source: "test", Reason: "KernelDeadlock", Category: v1alpha1.CategoryKernel, Severity: v1alpha1.SeverityFatal, Since: metav1.Now(), Count: 1}}
	require.NoError(t, s.c.Create(s.ctx, orphan))
	t.Cleanup(func() { _ = s.c.Client.Delete(s.ctx, orphan) })
	s.leftAlone(node)
	require.NoError(t, s.c.Client.Get(s.ctx, client.ObjectKeyFromObject(orphan), &v1alpha1.NodeHealth{}), "nothing is lost")
	s.eventually("an event tells so", func() error {
		out, err := s.c.Kubectl(s.ctx, "get", "events.events.k8s.io", "-A", "-o", "jsonpath={range .items[*]}{.regarding.kind}/{.regarding.name} {.note}{\"\\n\"}{end}", "--field-selector", "regarding.name=no-such-node")
		if err == nil && out == "" {
			return fmt.Errorf("there is none")
		}
		return err
	})
}
