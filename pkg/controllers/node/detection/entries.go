package detection

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/controllers/nodehealth"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/detector/cluster"
)

// FieldManager owns the entries of the cluster detectors in a NodeHealth.
const FieldManager = "autorepair.sh/cluster-detectors"

// entries gives what the reports put into a NodeHealth, in the order of their keys.
func entries(reports []detector.Report) ([]v1alpha1.Source, []v1alpha1.Finding) {
	var sources []v1alpha1.Source
	var findings []v1alpha1.Finding
	for _, report := range reports {
		sources = append(sources, report.Source)
		findings = append(findings, report.Findings...)
	}
	for i := range findings {
		findings[i].Count = 1 // a statement of the present; how often we looked is nobody's business
	}
	inOrder(sources, findings)
	return sources, findings
}

func inOrder(sources []v1alpha1.Source, findings []v1alpha1.Finding) {
	slices.SortFunc(sources, func(a, b v1alpha1.Source) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(findings, func(a, b v1alpha1.Finding) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Subject, b.Subject))
	})
}

// unchanged says that our part of the NodeHealth stands as it should.
func unchanged(health *v1alpha1.NodeHealth, sources []v1alpha1.Source, findings []v1alpha1.Finding, flips string) bool {
	var standingSources []v1alpha1.Source
	for _, source := range health.Sources {
		if slices.Contains(cluster.Sources, source.Name) {
			standingSources = append(standingSources, source)
		}
	}
	var standing []v1alpha1.Finding
	for _, finding := range health.Findings {
		if slices.Contains(cluster.Sources, finding.Source) {
			finding.Count, finding.LastObserved = 1, nil
			standing = append(standing, finding)
		}
	}
	inOrder(standingSources, standing)
	return health.Annotations[cluster.FlipsAnnotation] == flips &&
		equality.Semantic.DeepEqual(standingSources, sources) && equality.Semantic.DeepEqual(standing, findings)
}

// applied is the whole of what we own in the NodeHealth of a Node. It holds the resource version that it rests on,
// since the start of a finding and the flips are taken from what stands there.
func applied(node *corev1.Node, health *v1alpha1.NodeHealth, sources []v1alpha1.Source, findings []v1alpha1.Finding, flips string) (*unstructured.Unstructured, error) {
	object, err := nodehealth.Applied(node, sources, findings)
	if err != nil {
		return nil, err //nolint:wrapcheck // says all there is to say
	}
	if flips != "" {
		object.SetAnnotations(map[string]string{cluster.FlipsAnnotation: flips})
	}
	if health != nil {
		object.SetResourceVersion(health.ResourceVersion)
	}
	return object, nil
}
