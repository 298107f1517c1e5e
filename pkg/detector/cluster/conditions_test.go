package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

const yes, no, unknown = corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown

func TestNodeConditions(t *testing.T) {
	categories := func(c ...v1alpha1.Category) []v1alpha1.Category { return c }
	for name, test := range map[string]struct {
		conditions     []corev1.NodeCondition
		want           []string
		wantSeverity   v1alpha1.Severity
		wantCategories []v1alpha1.Category
	}{
		"nobody writes conditions": {},
		"a healthy agent": {
			conditions:     []corev1.NodeCondition{condition("KernelReady", yes, "KernelIsReady", time.Hour), condition("StorageReady", yes, "", time.Hour)},
			wantCategories: categories(v1alpha1.CategoryKernel, v1alpha1.CategoryStorage),
		},
		"the monitoring agent finds a fault": {
			conditions: []corev1.NodeCondition{condition("KernelReady", no, "ForkFailedOutOfPIDs", time.Hour)},
			want:       []string{"ForkFailedOutOfPIDs"}, wantSeverity: v1alpha1.SeverityFatal, wantCategories: categories(v1alpha1.CategoryKernel),
		},
		"it glues two together": {
			conditions: []corev1.NodeCondition{condition("AcceleratedHardwareReady", no, "NvidiaXID79Error;NvidiaXID48Error", time.Hour)},
			want:       []string{"NvidiaXID48Error", "NvidiaXID79Error"}, wantSeverity: v1alpha1.SeverityFatal, wantCategories: categories(v1alpha1.CategoryAcceleratedHardware),
		},
		"it glues them with commas, one of them twice": {
			conditions: []corev1.NodeCondition{condition("NetworkingReady", no, "InterfaceNotUp,IPAMDNotReady, InterfaceNotUp", time.Hour)},
			want:       []string{"IPAMDNotReady", "InterfaceNotUp"}, wantSeverity: v1alpha1.SeverityFatal, wantCategories: categories(v1alpha1.CategoryNetworking),
		},
		"a reason that is none leaves the name of the condition": {
			conditions: []corev1.NodeCondition{condition("StorageReady", no, "???", time.Hour), condition("ContainerRuntimeReady", no, "", time.Hour)},
			want:       []string{"ContainerRuntimeReady", "StorageReady"}, wantSeverity: v1alpha1.SeverityFatal, wantCategories: categories(v1alpha1.CategoryStorage, v1alpha1.CategoryContainerRuntime),
		},
		"an agent that does not know says neither healthy nor sick": {conditions: []corev1.NodeCondition{condition("KernelReady", unknown, "Whatever", time.Hour)}},
		"node-problem-detector finds faults": {
			conditions: []corev1.NodeCondition{
				condition("KernelDeadlock", yes, "DockerHung", time.Hour), condition("CperHardwareErrorFatal", yes, "X", time.Hour),
				condition("ReadonlyFilesystem", yes, "FilesystemIsReadOnly", time.Hour), condition("XfsShutdown", yes, "XfsHasShutdown", time.Hour),
				condition("FrequentKubeletRestart", yes, "X", time.Hour), condition("FrequentContainerdRestart", yes, "X", time.Hour), condition("FrequentDockerRestart", yes, "X", time.Hour),
			},
			want:         []string{"CperHardwareErrorFatal", "FrequentContainerdRestart", "FrequentDockerRestart", "FrequentKubeletRestart", "KernelDeadlock", "ReadonlyFilesystem", "XfsShutdown"},
			wantSeverity: v1alpha1.SeverityFatal, wantCategories: categories(v1alpha1.CategoryKernel, v1alpha1.CategoryStorage, v1alpha1.CategoryContainerRuntime),
		},
		"node-problem-detector finds none": {
			conditions:     []corev1.NodeCondition{condition("KernelDeadlock", no, "KernelHasNoDeadlock", time.Hour), condition("ReadonlyFilesystem", no, "X", time.Hour)},
			wantCategories: categories(v1alpha1.CategoryKernel, v1alpha1.CategoryStorage),
		},
		"network devices that come and go are shown only": {
			conditions: []corev1.NodeCondition{condition("FrequentUnregisterNetDevice", yes, "UnregisterNetDevice", time.Hour)},
			want:       []string{"FrequentUnregisterNetDevice"}, wantSeverity: v1alpha1.SeverityWarning, wantCategories: categories(v1alpha1.CategoryNetworking),
		},
		"conditions of the kubelet are not taken for faults": {
			conditions: []corev1.NodeCondition{condition(corev1.NodeMemoryPressure, yes, "X", time.Hour), condition(corev1.NodeDiskPressure, yes, "X", time.Hour), condition("SomeonesOwn", yes, "X", time.Hour)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			result := detect(t, Input{Node: newNode(test.conditions...)})
			if len(test.want) == 0 {
				require.Empty(t, named(result))
			} else {
				require.Equal(t, test.want, named(result))
			}
			got := report(t, result, SourceNodeConditions)
			require.Equal(t, test.wantCategories, got.Source.Categories)
			for _, finding := range got.Findings {
				require.Equal(t, test.wantSeverity, finding.Severity)
				require.Equal(t, "said so", finding.Message)
				require.Equal(t, ago(time.Hour), finding.Since)
			}
		})
	}
}

func TestFaultsInOneConditionKeepTheirStarts(t *testing.T) {
	look := func(at time.Duration, previous *v1alpha1.NodeHealth, reason string, transition time.Duration) Result {
		c := condition("AcceleratedHardwareReady", no, reason, 0)
		c.LastTransitionTime.Time = now.Add(transition)
		return detect(t, Input{Now: now.Add(at), Node: newNode(c), Previous: previous})
	}
	starts := func(result Result) map[string]time.Duration {
		out := map[string]time.Duration{}
		for _, f := range report(t, result, SourceNodeConditions).Findings {
			out[f.Reason] = f.Since.Sub(now)
		}
		return out
	}
	first := look(0, nil, "NvidiaXID48Error", -time.Minute)
	require.Equal(t, map[string]time.Duration{"NvidiaXID48Error": -time.Minute}, starts(first))

	t.Run("another fault does not move the first one's clock and has its own", func(t *testing.T) {
		for _, transition := range []time.Duration{-time.Minute, 5 * time.Minute} { // agents move it, or do not
			second := look(5*time.Minute, standing(first), "NvidiaXID48Error;NvidiaXID79Error", transition)
			require.Equal(t, map[string]time.Duration{"NvidiaXID48Error": -time.Minute, "NvidiaXID79Error": 5 * time.Minute}, starts(second))
		}
	})
	t.Run("faults that take turns do not put the repair off", func(t *testing.T) {
		result := first
		for minute := 1; minute < 20; minute++ {
			reason := []string{"NvidiaXID48Error", "NvidiaXID79Error"}[minute%2]
			result = look(time.Duration(minute)*time.Minute, standing(result), reason, time.Duration(minute)*time.Minute)
			require.Equal(t, map[string]time.Duration{reason: -time.Minute}, starts(result))
		}
	})
	t.Run("a fault that comes again after the condition was healthy begins anew", func(t *testing.T) {
		healthy := detect(t, Input{Now: now.Add(time.Minute), Node: newNode(condition("AcceleratedHardwareReady", yes, "", 0)), Previous: standing(first)})
		require.Empty(t, named(healthy))
		require.Equal(t, map[string]time.Duration{"NvidiaXID48Error": 2 * time.Minute}, starts(look(2*time.Minute, standing(healthy), "NvidiaXID48Error", 2*time.Minute)))
	})
}

func TestLongTextsAreCutToWhatTheAPITakes(t *testing.T) {
	c := condition("KernelReady", no, strings.Repeat("é", 2000), time.Hour)
	c.Message = strings.Repeat("é", 2000)
	findings := report(t, detect(t, Input{Node: newNode(c)}), SourceNodeConditions).Findings
	require.Len(t, findings, 1)
	require.Len(t, []rune(findings[0].Message), 1024)
	require.Len(t, []rune(findings[0].Evidence[0]), 512)
	require.Equal(t, "KernelReady", findings[0].Reason)
}
