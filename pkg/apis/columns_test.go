package apis_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

var update = flag.Bool("update", false, "write the golden files anew")

// age is the last column: it depends on how long the test takes.
var age = regexp.MustCompile(`(?m)\d+[sm]+$`)

// What kubectl get shows must answer what is sick, why, since when, and what happens next.
func TestColumns(t *testing.T) {
	c := needCluster(t)
	daysAgo := func(days int) metav1.Time { return metav1.NewTime(time.Now().AddDate(0, 0, -days)) }
	putNodeHealths(t, c, daysAgo)
	putRepairPolicies(t, c, daysAgo)
	putNodeRepairs(t, c, daysAgo)
	putRepairPauses(t, c)

	var out strings.Builder
	for _, command := range []string{
		"get nodehealths", "get nodehealths -o wide", "get repairpolicies", "get repairpolicies -o wide", "get noderepairs", "get noderepairs -o wide",
		"get repairpauses",
	} {
		shown, err := c.Kubectl(t.Context(), strings.Fields(command)...)
		require.NoError(t, err)
		fmt.Fprintf(&out, "$ kubectl %s\n%s\n", command, age.ReplaceAllString(shown, "AGE"))
	}
	golden := filepath.Join("testdata", "columns.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o600))
	}
	text, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(string(text), out.String()), "if this is what people shall see, run the test with -update")
}

func putNodeHealths(t *testing.T, c *cluster.Cluster, daysAgo func(int) metav1.Time) {
	t.Helper()
	active := v1alpha1.Source{Name: "interfaces", State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryNetworking}}
	blind := v1alpha1.Source{Name: "nvml", State: v1alpha1.SourceUnavailable, Categories: []v1alpha1.Category{v1alpha1.CategoryAcceleratedHardware}}
	warning := v1alpha1.Finding{Source: "interfaces", Reason: "PPSExceeded", Subject: "eth0", Category: v1alpha1.CategoryNetworking,
		Severity: v1alpha1.SeverityWarning, Since: daysAgo(9), Count: 1, Message: "eth0 drops packets"}
	fatal := v1alpha1.Finding{Source: "interfaces", Reason: "InterfaceNotUp", Subject: "eth1", Category: v1alpha1.CategoryNetworking,
		Severity: v1alpha1.SeverityFatal, Since: daysAgo(5), Count: 1, Message: "eth1 was up in this boot and has been taken down"}
	for _, health := range []*v1alpha1.NodeHealth{
		{ObjectMeta: metav1.ObjectMeta{Name: "node-healthy"}, Sources: []v1alpha1.Source{active}},
		// The Warning stands first, and must not hide the fault.
		{ObjectMeta: metav1.ObjectMeta{Name: "node-sick"}, Sources: []v1alpha1.Source{active, blind}, Findings: []v1alpha1.Finding{warning, fatal}},
		{ObjectMeta: metav1.ObjectMeta{Name: "node-warned"}, Sources: []v1alpha1.Source{active}, Findings: []v1alpha1.Finding{warning}},
	} {
		require.NoError(t, c.Client.Create(t.Context(), health))
		deleteAtEnd(t, c, health)
	}
}

func putRepairPolicies(t *testing.T, c *cluster.Cluster, daysAgo func(int) metav1.Time) {
	t.Helper()
	for name, ready := range map[string]metav1.Condition{
		"default": {Status: metav1.ConditionTrue, Reason: "Valid", Message: "the policy is in use"},
		"gpu":     {Status: metav1.ConditionFalse, Reason: "Invalid", Message: `policies "gpu" and "gpu-too" have the same weight`},
	} {
		policy := cluster.RepairPolicy(name)
		require.NoError(t, c.Client.Create(t.Context(), policy))
		deleteAtEnd(t, c, policy)
		ready.Type, ready.LastTransitionTime = v1alpha1.PolicyConditionReady, daysAgo(1)
		policy.Status = v1alpha1.RepairPolicyStatus{NodeClaims: 12, Unhealthy: 1, Conditions: []metav1.Condition{ready}}
		require.NoError(t, c.Client.Status().Update(t.Context(), policy))
	}
}

func putRepairPauses(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for name, spec := range map[string]v1alpha1.RepairPauseSpec{
		"shift": {Zones: []string{"eu-west-1a"}, Reason: "ARC zonal shift away from euw1-az1"},
		"stop":  {}, "upgrade": {Until: "2030-01-31T18:00:00Z", Reason: "network upgrade, ask the platform team"},
	} {
		pause := &v1alpha1.RepairPause{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
		require.NoError(t, c.Client.Create(t.Context(), pause))
		deleteAtEnd(t, c, pause)
	}
}

func putNodeRepairs(t *testing.T, c *cluster.Cluster, daysAgo func(int) metav1.Time) {
	t.Helper()
	for name, status := range map[string]v1alpha1.NodeRepairStatus{
		"default-abcde-1": {Phase: v1alpha1.PhaseFailed, Message: "no replacement could be launched"},
		"default-abcde-2": {
			Phase: v1alpha1.PhaseWaiting, Message: "waiting for default-second to be Initialized, until 10:15:00",
			Replacements: []v1alpha1.ReplacementStatus{{NodeClaim: "default-first", Attempt: 1}, {NodeClaim: "default-second", Attempt: 2}},
		},
		"default-abcde-3": {},
	} {
		repair := &v1alpha1.NodeRepair{ObjectMeta: metav1.ObjectMeta{Name: name}}
		repair.Spec = v1alpha1.NodeRepairSpec{
			NodeClaim: v1alpha1.NodeClaimReference{Name: "default-abcde", UID: "6f1f6a0c-0000-4000-8000-000000000000"},
			NodeName:  "node-sick", NodePool: "default", Action: v1alpha1.ActionReplace,
			Cause:  v1alpha1.RepairCause{Reason: "InterfaceNotUp", Category: v1alpha1.CategoryNetworking, Subject: "eth1", Since: daysAgo(5)},
			Policy: v1alpha1.PolicyReference{Name: "default", Rule: "networking"}, Replacements: 1,
		}
		require.NoError(t, c.Client.Create(t.Context(), repair))
		deleteAtEnd(t, c, repair)
		repair.Status = status
		require.NoError(t, c.Client.Status().Update(t.Context(), repair))
	}
}
