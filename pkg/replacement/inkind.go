// Package replacement makes NodeClaims that take the place of a sick one. It is pure: objects go in, an object comes
// out.
package replacement

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpapis "sigs.k8s.io/karpenter/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// Width says how far a replacement may differ from the node that it replaces. Each step includes those before it.
type Width int

const (
	// InKindWidth: zone, architecture, operating system, capacity type and instance types of the old NodeClaim.
	InKindWidth Width = iota
	// AnyTypeWidth: also the other instance types that the NodePool names.
	AnyTypeWidth
	// AnyCapacityTypeWidth: also any capacity type of the NodePool.
	AnyCapacityTypeWidth
	// AnyZoneWidth: also any zone of the NodePool, unless volumes of the pods keep them in one.
	AnyZoneWidth
)

// Widened are the labels of the old node in which a wider replacement may differ from it.
var Widened = []string{corev1.LabelInstanceTypeStable, karpv1.CapacityTypeLabelKey, corev1.LabelTopologyZone}

// WidthOf gives the width of an attempt, which counts from 1.
func WidthOf(attempt int32) Width {
	return min(max(Width(attempt-1), InKindWidth), AnyZoneWidth)
}

// Input is what a replacement is made from.
type Input struct {
	// Name of the replacement.
	Name string
	// NodeRepair that it belongs to.
	NodeRepair string
	NodePool   *karpv1.NodePool
	// NodeClaim that is replaced, and the labels of its Node (of the NodeClaim where there is no Node).
	NodeClaim  *karpv1.NodeClaim
	NodeLabels map[string]string
	// Requests of the pods that have to move and of the daemons.
	Requests corev1.ResourceList
	Width    Width
	// Keep are those of Widened that the replacement shares at any width: pods that have to move could not run,
	// or reach their volumes, on a node without them.
	Keep []string
	// AvoidZones are zones in which nothing should be launched now; they are avoided where that leaves another.
	AvoidZones []string
}

// InKind makes a NodeClaim from the current template of the NodePool, narrowed to what the old node was. Where the
// template no longer allows what the old node was, the template wins. It fails where the NodePool cannot make any.
//
// What the provider resolves is not copied from the old NodeClaim; labels that come from custom requirements keep the
// old value, and the requirement is pinned to it, so that both agree.
func InKind(in Input) (*karpv1.NodeClaim, error) {
	if in.NodePool == nil || in.NodeClaim == nil {
		return nil, errors.New("making a replacement: there is no NodePool or no NodeClaim to make it from")
	}
	nodeClass := in.NodePool.Spec.Template.Spec.NodeClassRef
	if nodeClass == nil {
		return nil, fmt.Errorf("making a replacement: NodePool %q names no node class", in.NodePool.Name)
	}
	claim := in.NodePool.Spec.Template.ToNodeClaim()
	claim.ObjectMeta = metav1.ObjectMeta{
		Name:        in.Name,
		Labels:      maps.Clone(claim.Labels),
		Annotations: annotations(in.NodePool, claim.Annotations),
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: karpapis.Group + "/v1", Kind: "NodePool",
			Name: in.NodePool.Name, UID: in.NodePool.UID, BlockOwnerDeletion: lo.ToPtr(true),
		}},
	}
	claim.Labels = lo.Assign(claim.Labels, map[string]string{
		karpv1.NodePoolLabelKey:                         in.NodePool.Name,
		karpv1.NodeClassLabelKey(nodeClass.GroupKind()): nodeClass.Name,
		v1alpha1.NodeRepairLabel:                        in.NodeRepair,
	})
	requirements := narrow(in, claim.Labels)
	claim.Spec.Requirements = requirements.NodeSelectorRequirements()
	claim.Spec.Resources.Requests = maps.Clone(in.Requests)
	return claim, nil
}

// annotations of the template, the hashes that the NodePool itself carries (one of our own making would drift at
// birth), and the protection that keeps an empty replacement from being consolidated.
func annotations(nodePool *karpv1.NodePool, template map[string]string) map[string]string {
	out := lo.Assign(template, map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"})
	for _, key := range []string{karpv1.NodePoolHashAnnotationKey, karpv1.NodePoolHashVersionAnnotationKey} {
		if value, ok := nodePool.Annotations[key]; ok {
			out[key] = value
		}
	}
	return out
}

func narrow(in Input, labels map[string]string) scheduling.Requirements {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(in.NodePool.Spec.Template.Spec.Requirements...)
	requirements.Add(scheduling.NewRequirement(karpv1.NodePoolLabelKey, corev1.NodeSelectorOpIn, in.NodePool.Name))
	for _, key := range lo.Union(wanted(in.Width), in.Keep) {
		if value := in.NodeLabels[key]; value != "" {
			intersect(requirements, key, value)
		}
	}
	avoid(requirements, corev1.LabelTopologyZone, in.AvoidZones)
	if types := instanceTypes(in, requirements); len(types) > 0 {
		intersect(requirements, corev1.LabelInstanceTypeStable, types...)
	}
	for _, r := range in.NodePool.Spec.Template.Spec.Requirements {
		value := in.NodeLabels[r.Key]
		if value == "" || karpv1.WellKnownLabels.Has(r.Key) || karpv1.RestrictedLabels.Has(r.Key) {
			continue
		}
		if intersect(requirements, r.Key, value) {
			labels[r.Key] = value
		}
	}
	return requirements
}

// wanted lists the labels of the old node that the replacement shares.
func wanted(width Width) []string {
	keys := []string{corev1.LabelArchStable, corev1.LabelOSStable}
	if width < AnyZoneWidth {
		keys = append(keys, corev1.LabelTopologyZone)
	}
	if width < AnyCapacityTypeWidth {
		keys = append(keys, karpv1.CapacityTypeLabelKey)
	}
	return keys
}

// instanceTypes that the replacement may have. A list is always sent, since a provider may ask for one.
func instanceTypes(in Input, template scheduling.Requirements) []string {
	types := []string{}
	for _, r := range in.NodeClaim.Spec.Requirements {
		if r.Key == corev1.LabelInstanceTypeStable && r.Operator == corev1.NodeSelectorOpIn {
			types = append(types, r.Values...)
		}
	}
	if own := in.NodeLabels[corev1.LabelInstanceTypeStable]; own != "" && !slices.Contains(types, own) {
		types = append(types, own)
	}
	if in.Width >= AnyTypeWidth && !slices.Contains(in.Keep, corev1.LabelInstanceTypeStable) && template.Has(corev1.LabelInstanceTypeStable) {
		if r := template.Get(corev1.LabelInstanceTypeStable); r.Operator() == corev1.NodeSelectorOpIn {
			types = lo.Union(types, r.Values())
		}
	}
	return types
}

// avoid excludes values of a label, unless that would leave nothing.
func avoid(requirements scheduling.Requirements, key string, values []string) {
	if len(values) == 0 {
		return
	}
	others := scheduling.NewRequirement(key, corev1.NodeSelectorOpNotIn, values...)
	if requirements.Has(key) && requirements.Get(key).Intersection(others).Len() == 0 {
		return
	}
	requirements.Add(others)
}

// intersect narrows a requirement to the values, unless that would leave nothing, or fewer values than the NodePool
// asks for; then it leaves the requirement as it is, and says false.
func intersect(requirements scheduling.Requirements, key string, values ...string) bool {
	wish := scheduling.NewRequirement(key, corev1.NodeSelectorOpIn, values...)
	if !requirements.Has(key) {
		requirements.Add(wish)
		return true
	}
	narrowed := requirements.Get(key).Intersection(wish)
	if narrowed.Len() == 0 || (narrowed.MinValues() != nil && narrowed.Len() < *narrowed.MinValues()) {
		return false
	}
	requirements.Add(wish)
	return true
}
