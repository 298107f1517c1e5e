package repair

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/replacement"
)

// width of an attempt: one step wider for each attempt of this repair that failed, and for each repair of the node, and
// of those that it took the place of, that failed lately. A replacement that turned sick is not made the same again.
func (e *Executor) width(ctx context.Context, repair *v1alpha1.NodeRepair, attempt int32) (replacement.Width, error) {
	repairs := &v1alpha1.NodeRepairList{}
	if err := e.Client.List(ctx, repairs, client.UnsafeDisableDeepCopy); err != nil {
		return 0, fmt.Errorf("listing noderepairs, %w", err)
	}
	before := decision.FailedBefore(repairs.Items, repair.Spec.NodeClaim, e.Clock.Now())
	return replacement.WidthOf(attempt + int32(before)), nil //nolint:gosec // as many as are kept within a day
}

// keeps gives the labels that a replacement must share with the node, however wide: those that the pods which have to
// move ask for themselves, and the zone where they have volumes that are not of the node alone. Whether such a volume
// could be reached from another zone is not looked up: nearly none can, and in doubt the zone stays.
func keeps(moving []*corev1.Pod, width replacement.Width) []string {
	if width == replacement.InKindWidth {
		return nil // everything is kept anyway
	}
	var keys []string
	for _, pod := range moving {
		keys = append(keys, asksFor(pod)...)
		if slices.ContainsFunc(pod.Spec.Volumes, claimed) {
			keys = append(keys, corev1.LabelTopologyZone)
		}
	}
	// What the NodePool's template gives every node needs no word here, and must not have one: the provider's instance
	// types know nothing of it, so none would fit.
	keys = slices.DeleteFunc(keys, func(key string) bool { return !slices.Contains(replacement.Widened, key) })
	slices.Sort(keys)
	return slices.Compact(keys)
}

// asksFor lists the labels that the pod requires of its node.
func asksFor(pod *corev1.Pod) []string {
	var keys []string
	for key := range pod.Spec.NodeSelector {
		keys = append(keys, key)
	}
	if affinity := pod.Spec.Affinity; affinity != nil && affinity.NodeAffinity != nil {
		if required := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
			for _, term := range required.NodeSelectorTerms {
				for _, expression := range term.MatchExpressions {
					keys = append(keys, expression.Key)
				}
			}
		}
	}
	return keys
}

// claimed says whether the volume is a PersistentVolumeClaim, which outlives the pod on its node.
func claimed(volume corev1.Volume) bool {
	return volume.PersistentVolumeClaim != nil || volume.Ephemeral != nil
}
