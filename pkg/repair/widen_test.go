package repair

import (
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/replacement"
)

func TestWhatMovingPodsNeedIsKept(t *testing.T) {
	pod := func(change func(*corev1.PodSpec)) *corev1.Pod {
		p := movingPod("pod", "sick")
		change(&p.Spec)
		return p
	}
	for name, test := range map[string]struct {
		pod   *corev1.Pod
		width replacement.Width
		want  []string
	}{
		"nothing of a pod that asks for nothing": {pod: pod(func(*corev1.PodSpec) {}), width: replacement.AnyZoneWidth},
		"the zone of a volume that is claimed": {pod: pod(func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
		}), width: replacement.AnyZoneWidth, want: []string{corev1.LabelTopologyZone}},
		"not of one that is of the node alone": {pod: pod(func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}), width: replacement.AnyZoneWidth},
		"what a nodeSelector names, and nothing that the NodePool gives anyway": {pod: pod(func(s *corev1.PodSpec) {
			s.NodeSelector = map[string]string{karpv1.CapacityTypeLabelKey: "on-demand", karpv1.NodePoolLabelKey: "pool", "team": "a"}
		}), width: replacement.AnyCapacityTypeWidth, want: []string{karpv1.CapacityTypeLabelKey}},
		"what an affinity requires": {pod: pod(func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpExists}}}},
			}}}
		}), width: replacement.AnyTypeWidth, want: []string{corev1.LabelInstanceTypeStable}},
	} {
		t.Run(name, func(t *testing.T) {
			require.ElementsMatch(t, test.want, keeps([]*corev1.Pod{test.pod}, test.width))
			require.Empty(t, keeps([]*corev1.Pod{test.pod}, replacement.InKindWidth), "in kind everything is kept")
		})
	}
}

func TestTheReplacementOfAReplacementThatTurnedSickIsWider(t *testing.T) {
	zonesAtAttempts := func(earlier ...*v1alpha1.NodeRepair) []int {
		w := newWorld(t)
		for _, r := range earlier {
			require.NoError(t, w.api.Create(t.Context(), r))
			require.NoError(t, w.api.Status().Update(t.Context(), r))
		}
		e := w.executor(w.api)
		repair := w.repair()
		repair.Status.Evidence = &v1alpha1.RepairEvidence{}
		return lo.Map([]int32{1, 2, 3, 4}, func(attempt int32, _ int) int {
			width, err := e.width(t.Context(), repair, attempt)
			require.NoError(t, err)
			return int(width)
		})
	}
	failed := func(name, claim, made string, ago time.Duration) *v1alpha1.NodeRepair {
		r := repairOfSick()
		r.Name, r.UID, r.ResourceVersion = name, "", ""
		r.Spec.NodeClaim = v1alpha1.NodeClaimReference{Name: claim}
		r.Status.Phase, r.Status.FinishedAt = v1alpha1.PhaseFailed, lo.ToPtr(metav1.NewTime(now.Add(-ago)))
		r.Status.Replacements = []v1alpha1.ReplacementStatus{{NodeClaim: made, Attempt: 1}}
		return r
	}
	require.Equal(t, []int{0, 1, 2, 3}, zonesAtAttempts())
	require.Equal(t, []int{1, 2, 3, 3}, zonesAtAttempts(failed("first-1", "first", "sick", time.Hour)))
	require.Equal(t, []int{0, 1, 2, 3}, zonesAtAttempts(failed("first-1", "first", "sick", 25*time.Hour)), "what is longer ago says nothing")
	require.Equal(t, []int{0, 1, 2, 3}, zonesAtAttempts(failed("other-1", "other", "another", time.Hour)), "nor do others")
}
