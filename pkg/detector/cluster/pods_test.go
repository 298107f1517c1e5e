package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	running    = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	terminated = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
)

// deleted gives a pod whose deletion deadline has passed for so long, with containers in these states.
func deleted(name string, past time.Duration, states ...corev1.ContainerState) corev1.Pod {
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, DeletionTimestamp: new(ago(past))}}
	for i, state := range states {
		container := fmt.Sprint("c", i)
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: container})
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: container, State: state})
	}
	return pod
}

func TestPods(t *testing.T) {
	alive := deleted("a", time.Hour, running)
	alive.DeletionTimestamp = nil
	finalizer := deleted("a", time.Hour, terminated, terminated)
	finalizer.Finalizers = []string{"example.com/wait"}
	finalizerAndRunning := deleted("a", time.Hour, terminated, running)
	finalizerAndRunning.Finalizers = []string{"example.com/wait"}
	unreported := deleted("a", time.Hour, running)
	unreported.Status.ContainerStatuses = nil
	sidecar := deleted("a", time.Hour, terminated)
	sidecar.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", State: running}}
	failed := deleted("a", time.Hour, running)
	failed.Status.Phase = corev1.PodFailed
	for name, test := range map[string]struct {
		pods     []corev1.Pod
		want     []string
		wantNext time.Duration
	}{
		"ten minutes past its deadline with a running container": {pods: []corev1.Pod{deleted("a", 10*time.Minute, running)}, want: []string{"PodStuckTerminating default/a"}},
		"a second less is still in time":                         {pods: []corev1.Pod{deleted("a", 10*time.Minute-time.Second, running)}, wantNext: time.Second},
		"within its grace period it has time":                    {pods: []corev1.Pod{deleted("a", -time.Hour, running)}, wantNext: 70 * time.Minute},
		"one of two containers still runs":                       {pods: []corev1.Pod{deleted("a", time.Hour, terminated, running)}, want: []string{"PodStuckTerminating default/a"}},
		"its containers were never reported":                     {pods: []corev1.Pod{unreported}, want: []string{"PodStuckTerminating default/a"}},
		"its sidecar still runs":                                 {pods: []corev1.Pod{sidecar}, want: []string{"PodStuckTerminating default/a"}},
		"it only waits for a finalizer":                          {pods: []corev1.Pod{finalizer}},
		"it waits for a finalizer and a container still runs":    {pods: []corev1.Pod{finalizerAndRunning}, want: []string{"PodStuckTerminating default/a"}},
		"it has ended":            {pods: []corev1.Pod{failed}},
		"it is not being deleted": {pods: []corev1.Pod{alive}},
		"the next deadline is the earliest of those in the future": {pods: []corev1.Pod{deleted("a", 0, running), deleted("b", 5*time.Minute, running), deleted("c", time.Hour, running)}, want: []string{"PodStuckTerminating default/c"}, wantNext: 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			result := detect(t, Input{Pods: test.pods})
			require.ElementsMatch(t, test.want, named(result))
			if test.wantNext == 0 {
				require.Zero(t, result.Next)
			} else {
				require.Equal(t, now.Add(test.wantNext), result.Next)
			}
		})
	}
}

func TestTenStuckPodsAreEnough(t *testing.T) {
	var all []corev1.Pod
	for i := range 30 {
		all = append(all, deleted(fmt.Sprintf("p%02d", i), time.Hour+time.Duration(i)*time.Second, running))
	}
	findings := report(t, detect(t, Input{Pods: all}), SourcePods).Findings
	require.Len(t, findings, 10)
	require.Equal(t, "default/p20", findings[0].Subject, "the ten that are stuck for longest")
}
