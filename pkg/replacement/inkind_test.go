package replacement

import (
	"slices"
	"testing"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// input is a node in zone-a, of type m5.large, which its NodeClaim could also have had as m5.xlarge, of a NodePool
// that names nothing.
func input(change ...func(*Input)) Input {
	in := Input{
		Name: "pool-1", NodeRepair: "claim-1",
		NodePool:  &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool", UID: "pool-uid", Annotations: map[string]string{karpv1.NodePoolHashAnnotationKey: "42"}}},
		NodeClaim: &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim", Annotations: map[string]string{"karpenter.k8s.aws/instance": "old"}}},
		NodeLabels: map[string]string{
			corev1.LabelTopologyZone: "zone-a", corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux",
			karpv1.CapacityTypeLabelKey: "spot", corev1.LabelInstanceTypeStable: "m5.large", "example.com/resolved": "by the provider",
		},
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")},
	}
	in.NodePool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "example.com", Kind: "Class", Name: "class"}
	in.NodePool.Spec.Template.Labels = map[string]string{"team": "a"}
	in.NodePool.Spec.Template.Annotations = map[string]string{"note": "b"}
	in.NodeClaim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{requirement(corev1.LabelInstanceTypeStable, "m5.large", "m5.xlarge")}
	for _, f := range change {
		f(&in)
	}
	return in
}

func requirement(key string, values ...string) karpv1.NodeSelectorRequirementWithMinValues {
	return karpv1.NodeSelectorRequirementWithMinValues{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
}

func asks(requirements ...karpv1.NodeSelectorRequirementWithMinValues) func(*Input) {
	return func(in *Input) { in.NodePool.Spec.Template.Spec.Requirements = requirements }
}

func width(w Width) func(*Input) { return func(in *Input) { in.Width = w } }

// values of a requirement, sorted; nil where there is none.
func values(claim *karpv1.NodeClaim, key string) []string {
	r, ok := lo.Find(claim.Spec.Requirements, func(r karpv1.NodeSelectorRequirementWithMinValues) bool { return r.Key == key })
	if !ok {
		return nil
	}
	return slices.Sorted(slices.Values(r.Values))
}

func TestAReplacementIsWhatTheNodePoolMakesNow(t *testing.T) {
	in := input()
	claim, err := InKind(in)
	require.NoError(t, err)
	require.Equal(t, "pool-1", claim.Name)
	require.Equal(t, map[string]string{
		"team": "a", karpv1.NodePoolLabelKey: "pool", "example.com/class": "class", v1alpha1.NodeRepairLabel: "claim-1",
	}, claim.Labels)
	require.Equal(t, map[string]string{"note": "b", karpv1.DoNotDisruptAnnotationKey: "true", karpv1.NodePoolHashAnnotationKey: "42"}, claim.Annotations,
		"the template's, the protection, the NodePool's own hash; nothing of the old NodeClaim's")
	require.Equal(t, "pool-uid", string(claim.OwnerReferences[0].UID))
	require.True(t, *claim.OwnerReferences[0].BlockOwnerDeletion)
	require.Equal(t, in.Requests, claim.Spec.Resources.Requests)
	require.Nil(t, values(claim, "example.com/resolved"), "what the provider resolves is not copied")
}

func TestEachWidthGoesFurther(t *testing.T) {
	own := requirement(corev1.LabelInstanceTypeStable, "m5.large", "c5.large")
	for name, test := range map[string]struct {
		width              Width
		zone, capacityType []string
		types              []string
	}{
		"in kind":           {width: InKindWidth, zone: []string{"zone-a"}, capacityType: []string{"spot"}, types: []string{"m5.large"}},
		"any type":          {width: AnyTypeWidth, zone: []string{"zone-a"}, capacityType: []string{"spot"}, types: []string{"c5.large", "m5.large"}},
		"any capacity type": {width: AnyCapacityTypeWidth, zone: []string{"zone-a"}, types: []string{"c5.large", "m5.large"}},
		"any zone":          {width: AnyZoneWidth, types: []string{"c5.large", "m5.large"}},
	} {
		t.Run(name, func(t *testing.T) {
			claim, err := InKind(input(asks(own), width(test.width)))
			require.NoError(t, err)
			require.Equal(t, test.zone, values(claim, corev1.LabelTopologyZone))
			require.Equal(t, test.capacityType, values(claim, karpv1.CapacityTypeLabelKey))
			require.Equal(t, test.types, values(claim, corev1.LabelInstanceTypeStable))
			require.Equal(t, []string{"amd64"}, values(claim, corev1.LabelArchStable), "pods need the architecture however wide")
		})
	}
}

func TestZonesInWhichNothingShouldBeLaunchedAreAvoided(t *testing.T) {
	zones := requirement(corev1.LabelTopologyZone, "zone-a", "zone-b")
	shifted := func(zones ...string) func(*Input) { return func(in *Input) { in.AvoidZones = zones } }
	for sentence, test := range map[string]struct {
		shifted []string
		options []func(*Input)
		want    []string
	}{
		"where the NodePool has another":                     {shifted: []string{"zone-b"}, want: []string{"zone-a"}},
		"not where the NodePool has no other":                {shifted: []string{"zone-a", "zone-b"}, want: []string{"zone-a", "zone-b"}},
		"not where volumes of the pods are there":            {shifted: []string{"zone-a"}, options: []func(*Input){func(in *Input) { in.Keep = []string{corev1.LabelTopologyZone} }}, want: []string{"zone-a"}},
		"in vain where the zone is none of the NodePool's":   {shifted: []string{"zone-z"}, want: []string{"zone-a", "zone-b"}},
		"no zone is avoided where none is shifted from work": {want: []string{"zone-a", "zone-b"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			claim, err := InKind(input(append(test.options, asks(zones), width(AnyZoneWidth), shifted(test.shifted...))...))
			require.NoError(t, err)
			require.ElementsMatch(t, test.want, values(claim, corev1.LabelTopologyZone))
		})
	}
	claim, err := InKind(input(width(AnyZoneWidth), shifted("zone-b")))
	require.NoError(t, err)
	require.Contains(t, claim.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{
		Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"zone-b"},
	}, "a NodePool that names no zones has all others")
}

func TestWhatPodsNeedIsKeptHoweverWide(t *testing.T) {
	own := requirement(corev1.LabelInstanceTypeStable, "m5.large", "c5.large")
	keep := func(keys ...string) func(*Input) { return func(in *Input) { in.Keep = keys } }
	claim, err := InKind(input(asks(own), width(AnyZoneWidth), keep(corev1.LabelTopologyZone)))
	require.NoError(t, err)
	require.Equal(t, []string{"zone-a"}, values(claim, corev1.LabelTopologyZone), "their volumes are there")
	require.Equal(t, []string{"c5.large", "m5.large"}, values(claim, corev1.LabelInstanceTypeStable))
	require.Nil(t, values(claim, karpv1.CapacityTypeLabelKey))
	claim, err = InKind(input(asks(own), width(AnyZoneWidth), keep(corev1.LabelInstanceTypeStable, karpv1.CapacityTypeLabelKey)))
	require.NoError(t, err)
	require.Equal(t, []string{"m5.large"}, values(claim, corev1.LabelInstanceTypeStable))
	require.Equal(t, []string{"spot"}, values(claim, karpv1.CapacityTypeLabelKey))
	require.Nil(t, values(claim, corev1.LabelTopologyZone))
}

func TestTheTemplateWinsOverWhatTheOldNodeWas(t *testing.T) {
	for name, test := range map[string]struct {
		asks karpv1.NodeSelectorRequirementWithMinValues
		want []string
	}{
		"a zone that the NodePool no longer has": {asks: requirement(corev1.LabelTopologyZone, "zone-b", "zone-c"), want: []string{"zone-b", "zone-c"}},
		"a zone that it still has":               {asks: requirement(corev1.LabelTopologyZone, "zone-a", "zone-b"), want: []string{"zone-a"}},
		"types of which none is left":            {asks: requirement(corev1.LabelInstanceTypeStable, "c5.large"), want: []string{"c5.large"}},
		"fewer types than it asks for": {
			asks: karpv1.NodeSelectorRequirementWithMinValues{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"c5.large", "m5.large"}, MinValues: lo.ToPtr(2)},
			want: []string{"c5.large", "m5.large"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			claim, err := InKind(input(asks(test.asks)))
			require.NoError(t, err)
			require.Equal(t, test.want, values(claim, test.asks.Key))
		})
	}
}

func TestACustomLabelKeepsItsValueAndTheRequirementAgrees(t *testing.T) {
	colours := requirement("example.com/colour", "red", "blue")
	claim, err := InKind(input(asks(colours), func(in *Input) { in.NodeLabels["example.com/colour"] = "blue" }))
	require.NoError(t, err)
	require.Equal(t, "blue", claim.Labels["example.com/colour"])
	require.Equal(t, []string{"blue"}, values(claim, "example.com/colour"))

	claim, err = InKind(input(asks(colours), func(in *Input) { in.NodeLabels["example.com/colour"] = "green" }))
	require.NoError(t, err)
	require.NotContains(t, claim.Labels, "example.com/colour", "the NodePool no longer has it")
	require.Equal(t, []string{"blue", "red"}, values(claim, "example.com/colour"))
}

func TestTheInputStaysAsItIs(t *testing.T) {
	in, same := input(asks(requirement(corev1.LabelTopologyZone, "zone-a", "zone-b"))), input(asks(requirement(corev1.LabelTopologyZone, "zone-a", "zone-b")))
	_, err := InKind(in)
	require.NoError(t, err)
	require.Equal(t, same, in)
}

func TestANodePoolThatCanMakeNoneIsAnError(t *testing.T) {
	_, err := InKind(Input{})
	require.ErrorContains(t, err, "no NodePool")
	_, err = InKind(input(func(in *Input) { in.NodePool.Spec.Template.Spec.NodeClassRef = nil }))
	require.ErrorContains(t, err, `NodePool "pool" names no node class`)
}

func TestWidthsGrowWithTheAttemptsAndEnd(t *testing.T) {
	for attempt, want := range map[int32]Width{-3: InKindWidth, 0: InKindWidth, 1: InKindWidth, 2: AnyTypeWidth, 3: AnyCapacityTypeWidth, 4: AnyZoneWidth, 99: AnyZoneWidth} {
		require.Equal(t, want, WidthOf(attempt), "attempt %d", attempt)
	}
}
