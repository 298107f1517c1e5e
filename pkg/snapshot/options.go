package snapshot

import (
	"context"

	karpoptions "sigs.k8s.io/karpenter/pkg/operator/options"
)

// WithKarpenterOptions gives a context that Karpenter's packages can be called with: they panic where their options
// are absent. The options are Karpenter's defaults, with its own repair off.
func WithKarpenterOptions(ctx context.Context) context.Context {
	return karpoptions.ToContext(ctx, &karpoptions.Options{
		CPURequests:       1000,
		IgnoreDRARequests: true,
		PreferencePolicy:  karpoptions.PreferencePolicyRespect,
		MinValuesPolicy:   karpoptions.MinValuesPolicyStrict,
		FeatureGates:      karpoptions.DefaultFeatureGates(),
	})
}
