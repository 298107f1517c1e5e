package inside

import (
	"context"
	"runtime/debug"
	"strings"

	"sigs.k8s.io/karpenter/pkg/operator/options"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/decision"
)

// core is the module that Karpenter's methods and lifecycles are in, whatever the provider.
const core = "sigs.k8s.io/karpenter"

// thisKarpenter says of the Karpenter that this program is what beside one has to be found out. What it links has the
// Rebooting lifecycle, else it would not compile; the old repair controller is the one that knows no veto.
func thisKarpenter(ctx context.Context) decision.Karpenter {
	o := options.FromContext(ctx)
	return decision.Karpenter{
		Version: VersionOf(core), OwnRepair: o.FeatureGates.NodeRepair, HonoursDoNotRepair: !o.LegacyNodeRepair, RebootSupported: true,
	}
}

// VersionOf gives the version of a module that this program was built with, as "1.15.0"; empty where Go has not written
// it down.
func VersionOf(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return versionIn(info, module)
}

func versionIn(info *debug.BuildInfo, path string) string {
	for _, module := range info.Deps {
		if module.Path != path {
			continue
		}
		if module.Replace != nil {
			module = module.Replace
		}
		return strings.TrimPrefix(module.Version, "v")
	}
	return ""
}
