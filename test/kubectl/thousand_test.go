package kubectl

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	operatorstatus "github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/test/cluster"
)

// many is how many nodes the large cluster has; every tenth is sick.
const many = 1000

// TestStatusOfAThousandNodes measures the whole command: connecting, listing, reckoning, printing. The machine runs the
// API server and the tests of others beside it, so the bound on the time is generous; that on CPU time is what makes a
// second possible. The log has the figures.
func TestStatusOfAThousandNodes(t *testing.T) {
	ctx := needCluster(t)
	require.NoError(t, controller.Stop())
	for _, part := range []string{"karpenter", "controller-manager", "scheduler", "kwok"} {
		require.NoError(t, shared.Part(ctx, "stop", part), "it would have its say about the nodes")
	}
	began := time.Now()
	require.NoError(t, shared.Create(ctx, cluster.NodeClass("large"), cluster.NodePool("large"), policyOf("large")))
	errs := make([]error, many)
	workqueue.ParallelizeUntil(ctx, 20, many, func(i int) { errs[i] = createNode(ctx, i) })
	for _, err := range errs {
		require.NoError(t, err)
	}
	t.Logf("made %d nodes in %s", many, time.Since(began).Round(time.Second))
	took, cpu := time.Hour, time.Hour
	for range 5 {
		began, used := time.Now(), cpuTime(t)
		out := say(ctx, t, "status")
		took, cpu = min(took, time.Since(began)), min(cpu, cpuTime(t)-used)
		require.Contains(t, out, "more: --all shows them")
	}
	t.Logf("status of %d nodes took %s, and %s of CPU time", many, took.Round(time.Millisecond), cpu.Round(time.Millisecond))
	require.Less(t, cpu, time.Second)
	require.Less(t, took, 20*time.Second)
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// createNode makes one node as heavy as they are: with the conditions of a NodeClaim, the images of a Node, and the
// sources of a NodeHealth.
func createNode(ctx context.Context, i int) error {
	name := fmt.Sprintf("large-%04d", i)
	labels := map[string]string{
		karpv1.NodePoolLabelKey: "large", karpv1.NodeInitializedLabelKey: "true", karpv1.NodeRegisteredLabelKey: "true", karpv1.CapacityTypeLabelKey: "spot",
		corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%3), corev1.LabelInstanceTypeStable: fmt.Sprintf("m%d.large", i%7), corev1.LabelArchStable: "amd64",
		corev1.LabelOSStable: "linux", corev1.LabelHostname: name,
	}
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.kwok.sh", Kind: "KWOKNodeClass", Name: "large"}
	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.NodeSpec{ProviderID: "large://" + name}}
	fillNode(node)
	if err := shared.Create(ctx, claim, node, healthOf(name, i)); err != nil {
		return err
	}
	fillClaim(claim, node, i)
	if err := shared.Client.Status().Update(ctx, claim); err != nil {
		return fmt.Errorf("writing the status of %s, %w", name, err)
	}
	return nil
}

func fillClaim(claim *karpv1.NodeClaim, node *corev1.Node, i int) {
	claim.Status = karpv1.NodeClaimStatus{ProviderID: node.Spec.ProviderID, NodeName: node.Name, ImageID: "image-1"}
	now := metav1.Now()
	add := func(conditionType, message string) {
		claim.Status.Conditions = append(claim.Status.Conditions, operatorstatus.Condition{
			Type: conditionType, Status: metav1.ConditionTrue, Reason: "Measured", Message: message, LastTransitionTime: now,
		})
	}
	for _, conditionType := range []string{
		karpv1.ConditionTypeLaunched, karpv1.ConditionTypeRegistered, karpv1.ConditionTypeInitialized, karpv1.ConditionTypeConsolidatable, "Ready",
		"autorepair.sh/KernelReady", "autorepair.sh/NetworkingReady", "autorepair.sh/StorageReady", "autorepair.sh/ContainerRuntimeReady", "autorepair.sh/KubeletReady",
	} {
		add(conditionType, "")
	}
	if i%10 == 0 {
		add(v1alpha1.ConditionUnhealthy, "InterfaceNotUp eth1 since a while, which is tolerated no longer by the policy")
		add(v1alpha1.ConditionRepairBlocked, `DisruptionBudget: budget of NodePool "large" (nodes: "1") admits 1 disruption for reason Unhealthy, 1 in flight`)
	}
}

func fillNode(node *corev1.Node) {
	now := metav1.Now()
	node.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi")}
	for image := range 30 {
		node.Status.Images = append(node.Status.Images, corev1.ContainerImage{
			Names: []string{fmt.Sprintf("registry.example.com/team/application-%d@sha256:%064d", image, image), fmt.Sprintf("registry.example.com/team/application-%d:v1", image)}, SizeBytes: 1 << 28,
		})
	}
	for _, conditionType := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeDiskPressure, corev1.NodeMemoryPressure, corev1.NodePIDPressure} {
		node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{Type: conditionType, Status: corev1.ConditionTrue, Reason: "Measured", LastHeartbeatTime: now, LastTransitionTime: now})
	}
}

func healthOf(name string, i int) *v1alpha1.NodeHealth {
	health := &v1alpha1.NodeHealth{ObjectMeta: metav1.ObjectMeta{Name: name}, BootID: name}
	for source := range 20 {
		health.Sources = append(health.Sources, v1alpha1.Source{
			Name: fmt.Sprintf("source-%d", source), State: v1alpha1.SourceActive, Categories: []v1alpha1.Category{v1alpha1.CategoryKernel, v1alpha1.CategoryNetworking},
		})
	}
	if i%10 == 0 {
		health.Findings = []v1alpha1.Finding{{
			Source: "source-1", Reason: "InterfaceNotUp", Subject: "eth1", Category: v1alpha1.CategoryNetworking, Severity: v1alpha1.SeverityFatal,
			Since: metav1.NewTime(time.Now().Add(-time.Hour)), Count: 1, Message: "eth1 has lost its carrier", Evidence: []string{"eth1: carrier 0, operstate down"},
		}}
	}
	return health
}
