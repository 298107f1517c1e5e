package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/apis/v1alpha1"
	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// RebootProviders are the API groups of the node classes whose provider reboots instances in place, as of Karpenter
// 1.15.0. What a provider can do shows only in its code: its method Reboot is not seen from outside, and where it is not
// implemented, the reboot ends the NodeClaim.
//
//   - karpenter.k8s.aws: karpenter-provider-aws v1.15.0, pkg/providers/instance/instance.go; it needs the permission
//     ec2:RebootInstances.
//   - karpenter.kwok.sh: sigs.k8s.io/karpenter v1.15.0, kwok/cloudprovider/cloudprovider.go, which changes the boot ID.
var RebootProviders = []string{"karpenter.k8s.aws", "karpenter.kwok.sh"}

// providerReboots says whether the provider of the NodeClaim's node class is among those that reboot instances.
func providerReboots(nodeClaim *karpv1.NodeClaim, providers []string) bool {
	class := nodeClaim.Spec.NodeClassRef
	return class != nil && slices.Contains(providers, class.Group)
}

// tellReboots states of a node the reboots that no NodeRepair tells of, and for how long what was found before the
// latest may stand. node and health are nil where there are none.
func tellReboots(entry *decision.Node, nodeClaim *karpv1.NodeClaim, node *corev1.Node, health *v1alpha1.NodeHealth) {
	if text := nodeClaim.Annotations[v1alpha1.RebootsAnnotation]; text != "" {
		for at := range strings.SplitSeq(text, ",") {
			parsed, err := time.Parse(time.RFC3339, at)
			if err != nil {
				entry.Unreadable = append(entry.Unreadable, fmt.Sprintf("annotation %s of the NodeClaim is no list of times: remove it", v1alpha1.RebootsAnnotation))
				break
			}
			entry.Reboots = append(entry.Reboots, parsed)
		}
	}
	if node == nil {
		return
	}
	condition := conditionOf(nodeClaim, karpv1.ConditionTypeRebooting)
	if condition == nil || condition.IsTrue() || condition.Reason != karpv1.RebootReasonSucceeded {
		return
	}
	settles := decision.RebootSettles
	if health != nil && health.BootID != "" && health.BootID != node.Status.NodeInfo.BootID {
		settles = decision.AgentSpeaks
	}
	entry.SettlesUntil = condition.LastTransitionTime.Add(settles)
}

// NoteReboot adds a time to what RebootsAnnotation holds, and drops the oldest of too many.
func NoteReboot(held string, at time.Time) string {
	var times []string
	if held != "" {
		times = strings.Split(held, ",")
	}
	times = append(times, at.UTC().Format(time.RFC3339))
	return strings.Join(times[max(0, len(times)-v1alpha1.MaxReboots):], ",")
}
