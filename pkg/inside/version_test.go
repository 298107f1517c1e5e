package inside

import (
	"context"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/karpenter/pkg/operator/options"
)

func TestTheVersionOfKarpenterIsTheOneThatWasLinked(t *testing.T) {
	karpenter := &debug.Module{Path: "sigs.k8s.io/karpenter", Version: "v1.15.0"}
	for name, tc := range map[string]struct {
		deps []*debug.Module
		want string
	}{
		"as the module says":          {deps: []*debug.Module{{Path: "sigs.k8s.io/karpenter/kwok", Version: "v9.9.9"}, karpenter}, want: "1.15.0"},
		"of what it was replaced by":  {deps: []*debug.Module{{Path: karpenter.Path, Version: "v1.15.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.15.1"}}}, want: "1.15.1"},
		"empty where nobody wrote it": {},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, versionIn(&debug.BuildInfo{Deps: tc.deps}, core))
		})
	}
}

func TestWhatIsKnownOfThisKarpenterIsInItsOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		options       options.Options
		own, honoured bool
	}{
		"repair is off":             {options: options.Options{}, honoured: true},
		"its own repair is on":      {options: options.Options{FeatureGates: options.FeatureGates{NodeRepair: true}}, own: true, honoured: true},
		"the old repair controller": {options: options.Options{LegacyNodeRepair: true, FeatureGates: options.FeatureGates{NodeRepair: true}}, own: true},
	} {
		t.Run(name, func(t *testing.T) {
			got := thisKarpenter(options.ToContext(context.Background(), &tc.options))
			require.Equal(t, tc.own, got.OwnRepair)
			require.Equal(t, tc.honoured, got.HonoursDoNotRepair)
			require.True(t, got.RebootSupported)
		})
	}
}
