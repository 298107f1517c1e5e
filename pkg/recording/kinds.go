// Package recording reads and writes the state of a cluster as files: what its owner keeps as manifests, what kubectl get
// prints, and what has been recorded from a living cluster. What is read is what the API server would have stored.
package recording

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/scheme"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/snapshot"
)

var kinds = scheme.New()

// recorded are the kinds that files are read for: what decisions rest on, and what tells of the Karpenter and the
// controller of the cluster.
var recorded = map[schema.GroupKind]bool{
	{Group: "karpenter.sh", Kind: "NodePool"}:  true,
	{Group: "karpenter.sh", Kind: "NodeClaim"}: true,
	{Kind: "Node"}: true,
	{Kind: "Pod"}:  true,
	{Group: "policy", Kind: "PodDisruptionBudget"}:                    true,
	{Group: v1alpha1.Group, Kind: "NodeHealth"}:                       true,
	{Group: v1alpha1.Group, Kind: policyKind}:                         true,
	{Group: v1alpha1.Group, Kind: "RepairPause"}:                      true,
	{Group: v1alpha1.Group, Kind: "NodeRepair"}:                       true,
	{Group: "apps", Kind: "Deployment"}:                               true,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: true,
	{Group: "coordination.k8s.io", Kind: "Lease"}:                     true,
}

// policyKind is the kind that people write by hand.
const policyKind = "RepairPolicy"

// wanted says whether files are read for the kind, in a version that is known.
func wanted(gvk schema.GroupVersionKind) bool {
	return kinds.Recognizes(gvk) && recorded[gvk.GroupKind()]
}

// tells says whether an object can bear on anything: of Deployments, CustomResourceDefinitions and Leases few do.
func tells(object client.Object) bool {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return snapshot.IsKarpenter(o)
	case *apiextensionsv1.CustomResourceDefinition:
		return slices.Contains(snapshot.KarpenterDefinitions, o.Name)
	case *coordinationv1.Lease:
		return o.Name == v1alpha1.LeaseName
	default:
		return true
	}
}
