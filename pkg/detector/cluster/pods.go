package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/health"
)

// ReasonPodStuckTerminating is the reason of the source pods.
const ReasonPodStuckTerminating = "PodStuckTerminating"

const (
	// terminatedWithin is the time after its deletion deadline within which a pod's containers must have ended.
	terminatedWithin = 10 * time.Minute
	// shownPods bounds the findings; one is enough to condemn the node.
	shownPods = 10
)

// pods finds pods whose containers do not end. A pod whose containers have all been reported terminated waits for
// a finalizer or for the API server, and says nothing about the node.
func pods(in Input) (detector.Report, time.Time) {
	report := active(SourcePods, v1alpha1.CategoryContainerRuntime)
	var next time.Time
	var stuck []*corev1.Pod
	for i := range in.Pods {
		pod := &in.Pods[i]
		if pod.DeletionTimestamp.IsZero() || containersEnded(pod) {
			continue
		}
		deadline := stuckFrom(pod)
		if !in.Now.Before(deadline) {
			stuck = append(stuck, pod)
		} else if next.IsZero() || deadline.Before(next) {
			next = deadline
		}
	}
	slices.SortFunc(stuck, func(a, b *corev1.Pod) int {
		return cmp.Or(stuckFrom(a).Compare(stuckFrom(b)), cmp.Compare(subjectOf(a), subjectOf(b)))
	})
	for _, pod := range stuck[:min(len(stuck), shownPods)] {
		report.Findings = append(report.Findings, v1alpha1.Finding{
			Source:   SourcePods,
			Reason:   ReasonPodStuckTerminating,
			Subject:  subjectOf(pod),
			Category: v1alpha1.CategoryContainerRuntime,
			Severity: v1alpha1.SeverityFatal,
			Since:    in.since(SourcePods, ReasonPodStuckTerminating, subjectOf(pod), stuckFrom(pod)),
			Message: fmt.Sprintf("the pod had to end by %s, and its containers are not reported terminated",
				pod.DeletionTimestamp.UTC().Format(time.RFC3339)),
		})
	}
	return report, next
}

// stuckFrom: the deletion timestamp includes the grace period already.
func stuckFrom(pod *corev1.Pod) time.Time { return pod.DeletionTimestamp.Add(terminatedWithin) }

func subjectOf(pod *corev1.Pod) string { return health.Shorten(pod.Namespace+"/"+pod.Name, 253) }

// containersEnded says that none of the pod's containers may still run. Init containers that are no sidecars have
// ended before the others began.
func containersEnded(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return true
	}
	statuses := append(slices.Clone(pod.Status.InitContainerStatuses), pod.Status.ContainerStatuses...)
	for _, status := range statuses {
		if status.State.Running != nil {
			return false
		}
	}
	for _, container := range pod.Spec.Containers {
		i := slices.IndexFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == container.Name })
		if i < 0 || pod.Status.ContainerStatuses[i].State.Terminated == nil {
			return false
		}
	}
	return true
}
