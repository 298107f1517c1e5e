// Package health holds the words of the project: categories and their conditions, severities, and the catalogue
// of reasons. It touches nothing but API types.
package health

import (
	"time"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
)

// SilentAfterHeartbeats is how many heartbeats a source may miss before what it said is Unknown.
const SilentAfterHeartbeats = 3

// Categories lists the categories that have a condition, in the order in which people see them.
var Categories = []v1alpha1.Category{
	v1alpha1.CategoryKernel,
	v1alpha1.CategoryNetworking,
	v1alpha1.CategoryStorage,
	v1alpha1.CategoryContainerRuntime,
	v1alpha1.CategoryAcceleratedHardware,
	v1alpha1.CategoryKubelet,
	v1alpha1.CategoryInstance,
}

// ConditionType gives the NodeClaim condition of a category, for example autorepair.sh/NetworkingReady.
// It is empty for CategoryRequest, which has none.
func ConditionType(category v1alpha1.Category) string {
	if category == v1alpha1.CategoryRequest {
		return ""
	}
	return v1alpha1.Group + "/" + string(category) + "Ready"
}

// Silent says whether a source has missed its heartbeats at now. A source without an interval never falls silent.
func Silent(source v1alpha1.Source, now time.Time) bool {
	deadline, ok := SilentAt(source)
	return ok && !now.Before(deadline)
}

// SilentAt gives the moment from which the source counts as silent; false where it never does.
func SilentAt(source v1alpha1.Source) (time.Time, bool) {
	if source.HeartbeatInterval == nil || source.LastHeartbeat == nil {
		return time.Time{}, false
	}
	return source.LastHeartbeat.Add(SilentAfterHeartbeats * source.HeartbeatInterval.Duration), true
}
