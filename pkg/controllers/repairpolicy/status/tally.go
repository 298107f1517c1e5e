package status

import (
	"github.com/samber/lo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/diagnosis"
)

// counted is what a policy has to do with.
type counted struct {
	selected  int32
	governed  int32
	unhealthy int32
	// conflicts are the policies of equal weight that select a NodeClaim too, with one such NodeClaim.
	conflicts map[string]string
}

func tally(compiled *diagnosis.Policies, policies []v1alpha1.RepairPolicy, claims []karpv1.NodeClaim) map[string]counted {
	tallies := map[string]counted{}
	selectors := map[string]labels.Selector{}
	for i := range policies {
		tallies[policies[i].Name] = counted{conflicts: map[string]string{}}
		selectors[policies[i].Name] = selectorOf(policies[i].Spec.NodeClaimSelector)
	}
	for i := range claims {
		claim := &claims[i]
		for name, selector := range selectors {
			if selector.Matches(labels.Set(claim.Labels)) {
				t := tallies[name]
				t.selected++
				tallies[name] = t
			}
		}
		governing, conflict := compiled.Governing(claim.Labels)
		for _, name := range conflict {
			for _, other := range lo.Without(conflict, name) {
				tallies[name].conflicts[other] = claim.Name
			}
		}
		if governing == nil {
			continue
		}
		t := tallies[governing.Name]
		t.governed++
		if lo.ContainsBy(claim.Status.Conditions, func(s statusCondition) bool {
			return s.Type == v1alpha1.ConditionUnhealthy && s.Status == metav1.ConditionTrue
		}) {
			t.unhealthy++
		}
		tallies[governing.Name] = t
	}
	return tallies
}

// selectorOf reads a selector; one that cannot be read selects nothing here, and Ready says why.
func selectorOf(selector *metav1.LabelSelector) labels.Selector {
	if selector == nil {
		return labels.Everything()
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return labels.Nothing()
	}
	return parsed
}

func builderPredicates(p predicate.Predicate) builder.Predicates { return builder.WithPredicates(p) }
