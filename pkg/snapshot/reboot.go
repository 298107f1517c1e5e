package snapshot

import (
	"slices"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
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
